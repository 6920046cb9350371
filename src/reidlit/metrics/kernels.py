"""Numba kernels: the ranks of each query's matches, and what follows from them."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Up to here one vectorised pass over the row for each match is faster than a binary search for each entry of the row.
FEW_MATCHES = 128


class QueryScores(NamedTuple):
    """One entry a query: AP and INP (NaN without a match), 1-based rank of the first match (0 without), match count."""

    ap: Floats
    inp: Floats
    first_match: Integers
    num_matches: Integers


def jit(*, parallel: bool = False) -> Callable[[Function], Function]:
    """`numba.njit` that keeps its types, frees the GIL and caches what it compiled where it can.

    Numba caches in NUMBA_CACHE_DIR, beside the module or in the user's cache folder. Where it may write to none of them,
    as in a read-only container, some of its versions refuse to decorate: then the cache is left out.
    """

    def decorate(function: Function) -> Function:
        try:
            compiled = numba.njit(parallel=parallel, nogil=True, cache=True)(function)
        except RuntimeError:
            compiled = numba.njit(parallel=parallel, nogil=True)(function)
        return cast("Function", compiled)

    return decorate


@jit()
def count_up_to(row: NDArray[Any], distance: float, index: int) -> int:
    """Number of entries of the row that come before (distance, index) in a stable ascending sort, itself included."""
    count = 0
    for j in range(index + 1):
        count += row[j] <= distance
    for j in range(index + 1, len(row)):
        count += row[j] < distance
    return count


@jit()
def position(distances: NDArray[Any], indices: Integers, distance: float, index: int) -> int:
    """Where (distance, index) belongs among pairs sorted by distance, then index."""
    low, length = 0, len(distances)
    while length > 0:
        half = length // 2
        middle = low + half
        if distances[middle] < distance or (distances[middle] == distance and indices[middle] < index):
            low = middle + 1
            length -= half + 1
        else:
            length = half
    return low


@jit()
def match_ranks(row: NDArray[Any], matches: Integers, junk: Integers) -> Integers:
    """1-based ranks of the matches in the stable argsort of the row without its junk, ascending.

    The row is not sorted, only the few matches are; what comes before each of them is counted.

    Args:
        row: (G,) distances of one query, without NaN.
        matches: Ascending gallery indices.
        junk: Gallery indices to leave out, none of them a match.

    Returns:
        As many ranks as matches.
    """
    order = np.argsort(row[matches], kind="mergesort")  # stable, so ties stay in gallery order
    indices = matches[order]
    distances = row[indices]
    # added[k]: entries between match k - 1 (exclusive) and match k (inclusive); its running sum is the rank.
    added = np.zeros(len(matches) + 1, np.int64)
    for j in junk:
        added[position(distances, indices, row[j], j)] -= 1
    few = len(matches) <= FEW_MATCHES
    if not few:
        for j in range(len(row)):
            added[position(distances, indices, row[j], j)] += 1
    ranks = np.cumsum(added[:-1])
    if few:
        for k in range(len(matches)):
            ranks[k] += count_up_to(row, distances[k], indices[k])
    return ranks


@jit(parallel=True)
def score_queries(
    distance: NDArray[Any], entries: Integers, is_match: NDArray[np.bool_], offsets: Integers
) -> tuple[Floats, Floats, Integers, Integers]:
    """Score a block of queries, each by itself: neither the block nor the threads change a result.

    Args:
        distance: (B, G) float32 or float64, without NaN.
        entries: (M,) gallery indices that are a match or junk, query after query, ascending within a query.
        is_match: (M,) which of them are matches; the others are junk.
        offsets: (B + 1,) query i owns `entries[offsets[i]:offsets[i + 1]]`.

    Returns:
        The fields of `QueryScores`, (B,) each.
    """
    size = distance.shape[0]
    ap = np.full(size, np.nan)
    inp = np.full(size, np.nan)
    first_match = np.zeros(size, np.int64)
    num_matches = np.zeros(size, np.int64)
    for i in numba.prange(size):
        own = entries[offsets[i] : offsets[i + 1]]
        kept = is_match[offsets[i] : offsets[i + 1]]
        matches = own[kept]
        count = len(matches)
        if count > 0:
            ranks = match_ranks(distance[i], matches, own[~kept])
            precision = 0.0
            for k in range(count):
                precision += (k + 1) / ranks[k]
            ap[i] = precision / count
            inp[i] = count / ranks[-1]
            first_match[i] = ranks[0]
            num_matches[i] = count
    return ap, inp, first_match, num_matches
