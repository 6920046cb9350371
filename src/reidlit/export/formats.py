"""Export formats: how to write each and how to run the files."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from reidlit.export.onnx import Embedder, write_onnx

METADATA = "reidlit"  # key of the metadata in a file

EmbedImages: TypeAlias = Callable[[Tensor], Tensor]
"""Function from images (B, 3, H, W), uint8, to embeddings (B, D), float32."""


class Format(NamedTuple):
    """Export format.

    Attributes:
        suffix: Suffix of the file name.
        write: Function that writes an embedder for images of a size to a file, with metadata as JSON text. The file
            accepts batches of any size.
        load: Function that loads the file in the runtime of the format.
    """

    suffix: str
    write: Callable[[Embedder, Path, tuple[int, int], str], None]
    load: Callable[[Path], EmbedImages]


def example(image_size: tuple[int, int], count: int = 2) -> Tensor:
    """Return random uint8 images (count, 3, H, W)."""
    return torch.randint(0, 256, (count, 3, *image_size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def write_torchscript(module: Embedder, path: Path, image_size: tuple[int, int], metadata: str) -> None:
    """Write a TorchScript file by tracing."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing warns about every use of a shape, and that it is deprecated
        jit: Any = torch.jit
        traced = jit.trace(module, example(image_size), check_trace=False)
        jit.save(traced, os.fspath(path), _extra_files={METADATA: metadata})


def load_torchscript(path: Path) -> EmbedImages:
    """Load a TorchScript file on the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jit: Any = torch.jit
        module = jit.load(os.fspath(path), map_location="cpu")
    return without_gradients(module)


def write_torch_export(module: Embedder, path: Path, image_size: tuple[int, int], metadata: str) -> None:
    """Write a file with `torch.export`.

    Raises:
        ValueError: If the model contains an operation that `torch.export` does not support for variable batch sizes.
    """
    batch = torch.export.Dim("batch", min=1, max=65536)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (example(image_size),), dynamic_shapes={"image": {0: batch}})
            torch.export.save(program, path, extra_files={METADATA: metadata})
    except Exception as error:
        raise ValueError(
            f"format=torch_export does not support this model ({str(error).splitlines()[0]}): use format=onnx."
        ) from error


def load_torch_export(path: Path) -> EmbedImages:
    """Load a `torch.export` file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return without_gradients(torch.export.load(path).module())


def load_onnx(path: Path) -> EmbedImages:
    """Load an ONNX file in ONNX Runtime on the CPU.

    Raises:
        ValueError: If ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"ONNX Runtime is not installed ({error}): run pip install 'reidlit[export]'.") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> Tensor:
        output = session.run(None, {"image": np.ascontiguousarray(image.numpy())})[0]
        return torch.from_numpy(output.astype(np.float32, copy=False))

    return run


def write_onnx_file(module: Embedder, path: Path, image_size: tuple[int, int], metadata: str) -> None:
    """Write an ONNX file with metadata; see `write_onnx`."""
    write_onnx(module, path, image_size)
    import onnx

    model = onnx.load(os.fspath(path))
    onnx.helper.set_model_props(model, {METADATA: metadata})
    onnx.save(model, os.fspath(path))


def write_openvino(module: Embedder, path: Path, image_size: tuple[int, int], metadata: str) -> None:
    """Write an OpenVINO file by conversion from ONNX; the weights are in a `.bin` file next to it.

    Raises:
        ValueError: If OpenVINO is not installed, or the model cannot be exported to ONNX.
    """
    openvino = _openvino()
    onnx = path.with_name(f".{path.stem}.onnx")
    try:
        write_onnx(module, onnx, image_size)
        converted = openvino.convert_model(os.fspath(onnx))
        converted.set_rt_info(metadata, METADATA)
        openvino.save_model(converted, os.fspath(path), compress_to_fp16=False)
    finally:
        onnx.unlink(missing_ok=True)


def load_openvino(path: Path) -> EmbedImages:
    """Load an OpenVINO file on the CPU, in full precision.

    Raises:
        ValueError: If OpenVINO is not installed.
    """
    openvino = _openvino()
    compiled = openvino.Core().compile_model(os.fspath(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(image: Tensor) -> Tensor:
        output = compiled(np.ascontiguousarray(image.numpy()))[compiled.output(0)]
        return torch.from_numpy(np.array(output, np.float32))

    return run


def without_gradients(module: Any) -> EmbedImages:
    """Return a module as a function that runs in inference mode."""

    def run(image: Tensor) -> Tensor:
        with torch.inference_mode():
            embedding: Tensor = module(image)
        return embedding

    return run


def written_files(path: Path) -> list[Path]:
    """Return the files of an exported model: `path`, and separate weights of OpenVINO or ONNX."""
    files = (path, path.with_suffix(".bin"), path.with_name(f"{path.name}.data"))
    return [file for file in files if file.is_file()]


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise ValueError(f"OpenVINO is not installed ({error}): run pip install 'reidlit[openvino]'.") from error
    return openvino


FORMATS: dict[str, Format] = {
    "onnx": Format(".onnx", write_onnx_file, load_onnx),
    "torchscript": Format(".torchscript", write_torchscript, load_torchscript),
    "torch_export": Format(".pt2", write_torch_export, load_torch_export),
    "openvino": Format(".xml", write_openvino, load_openvino),
}
