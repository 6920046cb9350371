"""Quantization of ONNX files to half precision or eight bits."""

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
    """Convert weights and computations of an ONNX file to half precision; inputs stay uint8 and outputs float32.

    Raises:
        ValueError: If `onnx` or `onnxruntime` is not installed.
    """
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise _not_installed(error) from error
    model = onnx.load(os.fspath(path))
    onnx.save(convert_float_to_float16(model, keep_io_types=True), os.fspath(path))


def to_int8(path: Path, images: Tensor) -> None:
    """Quantize convolutions and matrix products of an ONNX file to eight bits.

    The images determine the ranges of activations. Weights have one scale per channel.

    Args:
        path: Path of the file, which is overwritten.
        images: Calibration images (N, 3, H, W), uint8, similar to those of the application. A few hundred are enough.

    Raises:
        ValueError: If `onnx` or `onnxruntime` is not installed, or `images` is empty.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise _not_installed(error) from error
    if not len(images):
        raise ValueError("precision=int8 requires calibration images: set data=<dataset> or images=<folder>.")

    class CalibrationImages(CalibrationDataReader):  # type: ignore[misc]
        """Calibration images, one at a time."""

        def __init__(self) -> None:
            self.remaining: Iterator[Tensor] = iter(torch.split(images, 1))

        def get_next(self) -> dict[str, Any] | None:
            """Return the next image, or None after the last one."""
            image = next(self.remaining, None)
            return None if image is None else {"image": np.ascontiguousarray(image.numpy())}

    preprocessed = path.with_name(f".{path.name}.prepared")
    logging.getLogger().setLevel(logging.ERROR)  # ONNX Runtime recommends preprocessing even after it was done
    try:
        quant_pre_process(os.fspath(path), os.fspath(preprocessed), skip_symbolic_shape=True)
        quantize_static(
            os.fspath(preprocessed),
            os.fspath(path),
            CalibrationImages(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        )
    finally:
        preprocessed.unlink(missing_ok=True)
    onnx.checker.check_model(os.fspath(path))


def _not_installed(error: ImportError) -> ValueError:
    return ValueError(f"Quantization requires a missing package ({error}): run pip install 'reidlit[export]'.")
