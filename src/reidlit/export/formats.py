"""The forms in which a model leaves PyTorch's training: how each is written, and how it runs again."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from reidlit.export.onnx import Embedder, write_onnx

METADATA = "reidlit"  # the key under which a file holds it

EmbedImages: TypeAlias = Callable[[Tensor], Tensor]
"""(B, 3, H, W) uint8 -> (B, D) float32."""


class Format(NamedTuple):
    """A form of file.

    Attributes:
        suffix: of the file's name.
        write: puts an embedder of images of a size into a file, with what is to be known of it as JSON; the file takes
            batches of any number.
        load: reads the file in its own runtime.
    """

    suffix: str
    write: Callable[[Embedder, Path, tuple[int, int], str], None]
    load: Callable[[Path], EmbedImages]


def example(image_size: tuple[int, int], count: int = 2) -> Tensor:
    """(count, 3, H, W) uint8 noise."""
    return torch.randint(0, 256, (count, 3, *image_size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def write_torchscript(module: Embedder, path: Path, image_size: tuple[int, int], metadata: str) -> None:
    """Trace and save."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing tells of every shape that is read, and of its own age
        jit: Any = torch.jit
        traced = jit.trace(module, example(image_size), check_trace=False)
        jit.save(traced, os.fspath(path), _extra_files={METADATA: metadata})


def load_torchscript(path: Path) -> EmbedImages:
    """As a `torch.jit` module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jit: Any = torch.jit
        module = jit.load(os.fspath(path), map_location="cpu")
    return without_gradients(module)


def write_torch_export(module: Embedder, path: Path, image_size: tuple[int, int], metadata: str) -> None:
    """Export with `torch.export`.

    Raises:
        ValueError: if the model has an operation that cannot be exported for any number of images.
    """
    batch = torch.export.Dim("batch", min=1, max=65536)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (example(image_size),), dynamic_shapes={"image": {0: batch}})
            torch.export.save(program, path, extra_files={METADATA: metadata})
    except Exception as error:
        raise ValueError(f"this model cannot be exported by torch.export: {str(error).splitlines()[0]}") from error


def load_torch_export(path: Path) -> EmbedImages:
    """As an exported program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return without_gradients(torch.export.load(path).module())


def load_onnx(path: Path) -> EmbedImages:
    """In ONNX Runtime, on the CPU.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"ONNX Runtime is not installed ({error}): pip install reidlit[export].") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> Tensor:
        found = session.run(None, {"image": np.ascontiguousarray(image.numpy())})[0]
        return torch.from_numpy(found.astype(np.float32, copy=False))

    return run


def write_onnx_file(module: Embedder, path: Path, image_size: tuple[int, int], metadata: str) -> None:
    """Write an ONNX file; see `write_onnx`."""
    write_onnx(module, path, image_size)
    import onnx

    model = onnx.load(os.fspath(path))
    onnx.helper.set_model_props(model, {METADATA: metadata})
    onnx.save(model, os.fspath(path))


def write_openvino(module: Embedder, path: Path, image_size: tuple[int, int], metadata: str) -> None:
    """Convert the ONNX form; the weights go into a `.bin` file beside.

    Raises:
        ValueError: if OpenVINO is not installed, or the model cannot be converted.
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
    """In OpenVINO, on the CPU, in full precision.

    Raises:
        ValueError: if it is not installed.
    """
    openvino = _openvino()
    compiled = openvino.Core().compile_model(os.fspath(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(image: Tensor) -> Tensor:
        found = compiled(np.ascontiguousarray(image.numpy()))[compiled.output(0)]
        return torch.from_numpy(np.array(found, np.float32))

    return run


def without_gradients(module: Any) -> EmbedImages:
    """Return a module as a function that keeps no gradients."""

    def run(image: Tensor) -> Tensor:
        with torch.inference_mode():
            embedding: Tensor = module(image)
        return embedding

    return run


def written_files(path: Path) -> list[Path]:
    """Return the files that make up an exported model: `path`, and separate weights of OpenVINO or ONNX."""
    files = (path, path.with_suffix(".bin"), path.with_name(f"{path.name}.data"))
    return [file for file in files if file.is_file()]


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise ValueError(f"OpenVINO is not installed ({error}): pip install reidlit[openvino].") from error
    return openvino


FORMATS: dict[str, Format] = {
    "onnx": Format(".onnx", write_onnx_file, load_onnx),
    "torchscript": Format(".torchscript", write_torchscript, load_torchscript),
    "torch_export": Format(".pt2", write_torch_export, load_torch_export),
    "openvino": Format(".xml", write_openvino, load_openvino),
}
