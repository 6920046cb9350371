"""Bins of distances: a float32 without its last bits.

They need no range, follow any distance, negative ones too, to three parts in 100,000, which is near the rounding of a
distance itself, and hold few enough different numbers to stay in a core's cache.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.metrics.kernels import PAGE, Floats, Integers

SHIFT = 8
BINS = 2 ** (32 - SHIFT)
PAGES = BINS >> PAGE


def bin_of(distance: NDArray[Any]) -> Integers:
    """Bin (N,) of each distance (N,), ascending with the distance."""
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
        narrow = distance.astype(np.float32)
    bits = (narrow + np.float32(0)).view(np.int32).astype(np.int64)  # -0 + 0 is 0
    key = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # two's complement, so that negative numbers ascend as well
    return np.asarray((key >> SHIFT) + BINS // 2)


def upper_edge(index: Integers) -> Floats:
    """The largest distance (N,) that falls into each bin (N,)."""
    key = ((index - BINS // 2) << SHIFT) | (2**SHIFT - 1)
    key = np.where(key == -1, -2, key)  # that is -0, which counts as 0
    key = np.minimum(key, np.float32(np.inf).view(np.int32)).astype(np.int32)  # beyond are no numbers
    return np.where(key < 0, key ^ 0x7FFFFFFF, key).astype(np.int32).view(np.float32).astype(np.float64)
