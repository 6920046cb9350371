"""Histogram bins of distances, each the leading bits of a float32.

The bins need no range, resolve any distance, including negative ones, to three parts in 100,000 (close to the rounding
error of a distance), and are few enough to stay in the cache of a core.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.metrics._ranking.match_kernels import PAGE, SHIFT
from reidlit.metrics._ranking.types import Floats, Integers

BINS = 2 ** (32 - SHIFT)
PAGES = BINS >> PAGE


def bin_of(distance: NDArray[Any]) -> Integers:
    """Return the bin (N,) of each distance (N,); bins ascend with the distance."""
    with np.errstate(over="ignore"):  # distances beyond float32 become infinite
        narrow = distance.astype(np.float32)
    return ascending(narrow.view(np.uint32).astype(np.int64) >> SHIFT)


def ascending(leading: Integers) -> Integers:
    """Return the bin (N,) for the leading bits (N,) of float32 numbers, read as unsigned integers.

    The bits of negative numbers descend with the number. The first of their bins, which contains -0, becomes the bin of
    0.
    """
    middle = BINS // 2
    return np.asarray(np.where(leading < middle, middle + leading, BINS - leading))


def upper_edge(index: Integers) -> Floats:
    """Return the largest distance (N,) that belongs to each bin (N,)."""
    leading = index - BINS // 2
    key = ((leading - (leading < 0)) << SHIFT) | (2**SHIFT - 1)
    key = np.minimum(key, np.float32(np.inf).view(np.int32)).astype(np.int32)  # larger keys are NaN
    bits = np.where(key < 0, key ^ 0x7FFFFFFF, key).astype(np.int32)
    return np.asarray(bits.view(np.float32), np.float64)


def counts_by_bin(leading: Integers, counts: Integers) -> tuple[Integers, Integers]:
    """Convert counts by leading bits of the distances to ascending bins (N,) and their counts (N,)."""
    bins = ascending(leading)
    order = bins.argsort(kind="stable")  # fast because nearly sorted
    bins, counts = bins[order], counts[order]
    first = np.flatnonzero(np.diff(bins, prepend=-1))  # both zeros share a bin
    return bins[first], np.add.reduceat(counts, first) if len(first) else counts
