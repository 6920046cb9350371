"""Images in whatever form they are given, as uint8 arrays of one size."""

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
Given: TypeAlias = str | Path | Array | Tensor | Image.Image
"""A file, (H, W, 3) uint8 as an array, (3, H, W) as a tensor of uint8 or of 0 to 1, or a PIL image."""


def as_list(images: Given | Sequence[Given]) -> list[Given]:
    """One image, a batch (B, 3, H, W) or (B, H, W, 3), or a sequence of images, as a list of images.

    Raises:
        ValueError: if it is none of them.
    """
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, Tensor | np.ndarray):
        if images.ndim not in (3, 4):
            raise ValueError(f"images has the shape {tuple(images.shape)}: give one image or a batch of images.")
        return [images] if images.ndim == 3 else list(images)
    if isinstance(images, Sequence):
        return list(images)
    raise ValueError(f"images is a {type(images).__name__}: give paths, arrays, tensors or PIL images.")


def as_pixels(image: Given, bgr: bool = False) -> Array:
    """One image as (H, W, 3) uint8 RGB.

    Args:
        image: see `Given`.
        bgr: whether arrays have their channels as OpenCV has them. Files, tensors and PIL images are not affected.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if it is no image, or an array or tensor is of another shape, type or range.
    """
    if isinstance(image, str | Path):
        return decode(image)
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    if isinstance(image, Tensor):
        return _of_tensor(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(
                f"an array image must be (H, W, 3) uint8, got {image.shape} of {image.dtype}; "
                f"{'BGR' if bgr else 'RGB'} is expected, bgr={not bgr} takes the other order."
            )
        return image[:, :, ::-1] if bgr else image
    raise ValueError(f"an image is a {type(image).__name__}: give a path, an array, a tensor or a PIL image.")


def as_size(image: Given, size: tuple[int, int], bgr: bool = False) -> Array:
    """One image as (height, width, 3) uint8 RGB, resized as `reidlit test` does; see `as_pixels`."""
    return resize(np.ascontiguousarray(as_pixels(image, bgr)), *size, True)


def parse_image_size(size: Any) -> tuple[int, int] | None:
    """Return the height and width that a setting names; None for None.

    Raises:
        ValueError: If `size` is not two positive integers.
    """
    if size is None:
        return None
    sides = list(size) if isinstance(size, Sequence) and not isinstance(size, str) else []
    if len(sides) != 2 or not all(isinstance(side, int | np.integer) and side >= 1 for side in sides):
        raise ValueError(f"image_size={size} must be [height, width] in pixels, or null for the default.")
    return int(sides[0]), int(sides[1])


def _of_tensor(image: Tensor) -> Array:
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise ValueError(f"a tensor image must be (3, H, W), got {tuple(image.shape)}.")
    pixels: Array = image.detach().cpu().permute(1, 2, 0).numpy()
    if pixels.dtype == np.uint8:
        return pixels
    # A normalised tensor would be taken for a dark image, silently; NaN fails the comparison too.
    if pixels.dtype.kind != "f" or not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"a tensor image must be uint8, or of 0 to 1; got {image.dtype} from {pixels.min():.3g} to {pixels.max():.3g}. "
            "The normalisation belongs to the model, which does it itself."
        )
    return np.asarray(np.rint(pixels * 255), np.uint8)
