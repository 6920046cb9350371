"""Bins of distances: a float32 without its last bits.

They need no range, follow any distance, negative ones too, to three parts in 100,000, which is near the rounding of a
distance itself, and hold few enough different numbers to stay in a core's cache.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.metrics._ranking.match_kernels import PAGE, SHIFT
from reidlit.metrics._ranking.types import Floats, Integers

BINS = 2 ** (32 - SHIFT)
PAGES = BINS >> PAGE


def bin_of(distance: NDArray[Any]) -> Integers:
    """Bin (N,) of each distance (N,), ascending with the distance."""
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
        narrow = distance.astype(np.float32)
    return ascending(narrow.view(np.uint32).astype(np.int64) >> SHIFT)


def ascending(leading: Integers) -> Integers:
    """Bin (N,) of what the leading bits (N,) of a float32, taken as an unsigned number, stand for.

    Negative numbers ascend the other way round there. The first of them are zero: -0, and what is hardly less.
    """
    middle = BINS // 2
    return np.asarray(np.where(leading < middle, middle + leading, BINS - leading))


def upper_edge(index: Integers) -> Floats:
    """The largest distance (N,) that falls into each bin (N,)."""
    leading = index - BINS // 2
    key = ((leading - (leading < 0)) << SHIFT) | (2**SHIFT - 1)
    key = np.minimum(key, np.float32(np.inf).view(np.int32)).astype(np.int32)  # beyond are no numbers
    bits = np.where(key < 0, key ^ 0x7FFFFFFF, key).astype(np.int32)
    return np.asarray(bits.view(np.float32), np.float64)


def counts_by_bin(leading: Integers, counts: Integers) -> tuple[Integers, Integers]:
    """Return bins (N,), ascending, and their counts (N,), from counts by leading bits of the distances."""
    bins = ascending(leading)
    order = bins.argsort(kind="stable")  # nearly sorted
    bins, counts = bins[order], counts[order]
    first = np.flatnonzero(np.diff(bins, prepend=-1))  # both zeros share a bin
    return bins[first], np.add.reduceat(counts, first) if len(first) else counts
