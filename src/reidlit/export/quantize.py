"""Smaller ONNX files: half precision, or eight bits that images have calibrated."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

PRECISIONS = ("fp32", "fp16", "int8")


def to_fp16(path: Path) -> None:
    """Rewrite an ONNX file with weights and work in half precision; images stay uint8, embeddings float32.

    Raises:
        ValueError: if `onnx` or `onnxruntime` is not installed.
    """
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise _not_installed(error) from error
    model = onnx.load(os.fspath(path))
    onnx.save(convert_float_to_float16(model, keep_io_types=True), os.fspath(path))


def to_int8(path: Path, images: Tensor) -> None:
    """Rewrite an ONNX file with convolutions and products of eight bits.

    Ranges of activations are those that the images give; weights have a scale for each channel.

    Args:
        path: of the file.
        images: (N, 3, H, W) uint8, of the kind that the model will see; some hundred are enough.

    Raises:
        ValueError: if `onnx` or `onnxruntime` is not installed, or there is no image.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise _not_installed(error) from error
    if not len(images):
        raise ValueError("precision=int8 needs images to calibrate on: give data=<dataset> or images=<folder>.")

    class CalibrationImages(CalibrationDataReader):  # type: ignore[misc]
        """Images one at a time, as ONNX Runtime reads them."""

        def __init__(self) -> None:
            self.remaining: Iterator[Tensor] = iter(torch.split(images, 1))

        def get_next(self) -> dict[str, Any] | None:
            """Return the next image, or None after the last one."""
            image = next(self.remaining, None)
            return None if image is None else {"image": np.ascontiguousarray(image.numpy())}

    prepared = path.with_name(f".{path.name}.prepared")
    logging.getLogger().setLevel(logging.ERROR)  # it recommends what was done
    try:
        quant_pre_process(os.fspath(path), os.fspath(prepared), skip_symbolic_shape=True)
        quantize_static(
            os.fspath(prepared),
            os.fspath(path),
            CalibrationImages(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        )
    finally:
        prepared.unlink(missing_ok=True)
    onnx.checker.check_model(os.fspath(path))


def _not_installed(error: ImportError) -> ValueError:
    return ValueError(f"a smaller file needs what is not installed ({error}): pip install reidlit[export].")
