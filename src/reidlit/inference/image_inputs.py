"""Conversion of images of all supported types to uint8 arrays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from reidlit.data.decode import decode
from reidlit.data.transforms import resize

Array: TypeAlias = NDArray[Any]
ImageInput: TypeAlias = str | Path | Array | Tensor | Image.Image
"""An image: path, (H, W, 3) uint8 array, (3, H, W) tensor of uint8 or of floats in [0, 1], or PIL image."""


def as_list(images: ImageInput | Sequence[ImageInput]) -> list[ImageInput]:
    """Return one image, a batch (B, 3, H, W) or (B, H, W, 3), or a sequence of images as a list of images.

    Raises:
        ValueError: If `images` has an unsupported type or shape.
    """
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, Tensor | np.ndarray):
        if images.ndim not in (3, 4):
            raise ValueError(f"images has shape {tuple(images.shape)}: must be one image or a batch of images.")
        return [images] if images.ndim == 3 else list(images)
    if isinstance(images, Sequence):
        return list(images)
    raise ValueError(f"images has unsupported type {type(images).__name__}: pass paths, arrays, tensors or PIL images.")


def as_pixels(image: ImageInput, bgr: bool = False) -> Array:
    """Return an image as an (H, W, 3) uint8 RGB array.

    Args:
        image: Image of any supported type.
        bgr: Whether array images have BGR channel order, as in OpenCV. Other types are not affected.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file is not an image, or an array or tensor has an unsupported shape, dtype or range.
    """
    if isinstance(image, str | Path):
        return decode(image)
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    if isinstance(image, Tensor):
        return _tensor_pixels(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(
                f"The array image has shape {image.shape} and dtype {image.dtype}: must be (H, W, 3) uint8 in "
                f"{'BGR' if bgr else 'RGB'} order. Set bgr={not bgr} for the other channel order."
            )
        return image[:, :, ::-1] if bgr else image
    raise ValueError(f"The image has unsupported type {type(image).__name__}: pass a path, array, tensor or PIL image.")


def as_size(image: ImageInput, size: tuple[int, int], bgr: bool = False) -> Array:
    """Return an image as a (height, width, 3) uint8 RGB array, resized as in `reidlit test`; see `as_pixels`."""
    return resize(np.ascontiguousarray(as_pixels(image, bgr)), *size, True)


def parse_image_size(size: Any) -> tuple[int, int] | None:
    """Return height and width as a tuple, or None if `size` is None.

    Raises:
        ValueError: If `size` is not two positive integers.
    """
    if size is None:
        return None
    sides = list(size) if isinstance(size, Sequence) and not isinstance(size, str) else []
    if len(sides) != 2 or not all(isinstance(side, int | np.integer) and side >= 1 for side in sides):
        raise ValueError(f"image_size={size} is invalid: must be [height, width] in pixels, or null for the default.")
    return int(sides[0]), int(sides[1])


def _tensor_pixels(image: Tensor) -> Array:
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise ValueError(f"The tensor image has shape {tuple(image.shape)}: must be (3, H, W).")
    pixels: Array = image.detach().cpu().permute(1, 2, 0).numpy()
    if pixels.dtype == np.uint8:
        return pixels
    # A normalized tensor would otherwise pass as a dark image. NaN fails this comparison too.
    if pixels.dtype.kind != "f" or not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"The tensor image has dtype {image.dtype} and values in [{pixels.min():.3g}, {pixels.max():.3g}]: must be "
            "uint8, or floats in [0, 1]. Do not normalize images: the model does it."
        )
    return np.asarray(np.rint(pixels * 255), np.uint8)
