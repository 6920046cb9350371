"""Numba kernels over a block of distances: none sorts a row, and all are plain loops, which compile in a second.

The work is a comparison for each match and gallery entry, 16 to an instruction: less than the inner products took.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Entries that one match after the other is compared with while they stay in the first-level cache.
CHUNK = 4096
# A page of a histogram has 2^PAGE bins.
PAGE = 12
# Entries of which only the minimum is looked at while a list of nearest entries is full.
GLANCE = 64


def jit() -> Callable[[Function], Function]:
    """`numba.njit` that keeps its types, frees the GIL for `workers.share` and caches what it compiled where it can.

    Numba caches in NUMBA_CACHE_DIR, beside the module or in the user's cache folder. Where it may write to none of them,
    as in a read-only container, some of its versions refuse to decorate: then the cache is left out.
    """

    def decorate(function: Function) -> Function:
        try:
            compiled = numba.njit(nogil=True, cache=True)(function)
        except RuntimeError:
            compiled = numba.njit(nogil=True)(function)
        return cast("Function", compiled)

    return decorate


@jit()
def finish_row(row: NDArray[Any], base: float, offset: NDArray[Any], factor: float) -> None:
    """Turn inner products into distances, in place: `(base + offset) + factor * product`."""
    factor = row.dtype.type(factor)  # a float64 would double the work
    for j in range(len(row)):
        row[j] = (base + offset[j]) + factor * row[j]


@jit()
def finish_rows(values: NDArray[Any], base: NDArray[Any], offset: NDArray[Any], factor: float) -> None:
    """`finish_row` for each row of (B, G) with its base (B,)."""
    for i in range(len(values)):
        finish_row(values[i], base[i], offset, factor)


@jit()
def count_within(part: NDArray[Any], distance: float) -> np.int32:
    """Number of entries that are `distance` or less."""
    count = np.int32(0)  # as wide as a float32, so that the loop fills its vectors
    for j in range(len(part)):
        count = np.int32(count + np.int32(part[j] <= distance))
    return count


@jit()
def count_below(part: NDArray[Any], distance: float) -> np.int32:
    """Number of entries that are less than `distance`."""
    count = np.int32(0)
    for j in range(len(part)):
        count = np.int32(count + np.int32(part[j] < distance))
    return count


@jit()
def rank_in_row(row: NDArray[Any], chosen: int) -> int:
    """1-based rank of an entry in the stable argsort of the row: how many come up to it, itself included."""
    distance = row[chosen]
    return int(count_within(row[: chosen + 1], distance) + count_below(row[chosen + 1 :], distance))


@jit()
def ranks_in_row(row: NDArray[Any], chosen: Integers, ranks: Integers) -> None:
    """`rank_in_row` of several entries, a piece of the row at a time, so that it stays in the cache.

    Args:
        row: (G,) distances, without NaN.
        chosen: (M,) positions.
        ranks: (M,) is set to the ranks.
    """
    for k in range(len(chosen)):
        ranks[k] = 0
    for start in range(0, len(row), CHUNK):
        stop = min(start + CHUNK, len(row))
        for k in range(len(chosen)):
            distance = row[chosen[k]]
            # Of equal distances the one with the lower index comes first.
            split = min(max(chosen[k] + 1, start), stop)
            ranks[k] += count_within(row[start:split], distance) + count_below(row[split:stop], distance)


@jit()
def match_ranks(
    values: NDArray[Any],
    matches: Integers,
    match_offsets: Integers,
    junk: Integers,
    junk_offsets: Integers,
    base: NDArray[Any],
    offset: NDArray[Any],
    factor: float,
    unfinished: bool,
    ranks: Integers,
) -> None:
    """Ranks of each query's matches among the gallery without the query's junk; finishes unfinished rows on the way.

    Each query is treated by itself: neither the block nor the threads change a result. Offsets count from the first query
    of all, so that a thread can be given some rows of everything else.

    Args:
        values: (B, G) distances without NaN, or inner products if unfinished.
        matches: (M,) gallery indices, query after query, ascending within a query.
        match_offsets: (B + 1,) query i owns `matches[match_offsets[i]:match_offsets[i + 1]]`.
        junk: Gallery indices to leave out, likewise.
        junk_offsets: (B + 1,).
        base: (B,), as `offset` and `factor` for `finish_row`.
        offset: (G,).
        factor: Of the inner product.
        unfinished: Whether the rows are to be finished.
        ranks: (M,) is set to the 1-based ranks.
    """
    for i in range(len(values)):
        row = values[i]
        if unfinished:
            finish_row(row, base[i], offset, factor)
        start, stop = match_offsets[i], match_offsets[i + 1]
        ranks_in_row(row, matches[start:stop], ranks[start:stop])
        for j in junk[junk_offsets[i] : junk_offsets[i + 1]]:
            for m in range(start, stop):
                other = matches[m]
                ranks[m] -= row[j] < row[other] or (row[j] == row[other] and j < other)


@jit()
def group_ranks(
    values: NDArray[Any],
    matches: Integers,
    match_offsets: Integers,
    order: Integers,
    place: Integers,
    group: Integers,
    group_offsets: Integers,
    ranks: Integers,
) -> None:
    """Rank of each match among the gallery entries of its own group, such as those of one camera.

    Args:
        values: (B, G) distances without NaN.
        matches: As for `match_ranks`.
        match_offsets: Likewise.
        order: (G,) gallery indices, group after group, ascending within a group.
        place: (G,) where each gallery entry stands in `order`.
        group: (G,) the group of each gallery entry, from 0.
        group_offsets: (groups + 1,) group c is `order[group_offsets[c]:group_offsets[c + 1]]`.
        ranks: (M,) is set to the 1-based ranks.
    """
    for i in range(len(values)):
        row = values[i]
        grouped = np.empty_like(row)
        for j in range(len(order)):
            grouped[j] = row[order[j]]
        for m in range(match_offsets[i], match_offsets[i + 1]):
            start, stop = group_offsets[group[matches[m]]], group_offsets[group[matches[m]] + 1]
            ranks[m] = rank_in_row(grouped[start:stop], place[matches[m]] - start)


@jit()
def count_bins(values: NDArray[Any], counts: NDArray[np.uint32], touched: NDArray[np.bool_], shift: int) -> None:
    """Add a block to a histogram of distances over bins of equal leading bits (`bins.bin_of`).

    Args:
        values: (B, G) distances without NaN.
        counts: (bins,), changed in place.
        touched: (pages,) is set where a bin of that page of the counts was changed, so that few have to be read again.
        shift: Bits of a float32 that a bin leaves out.
    """
    middle = len(counts) // 2
    for i in range(len(values)):
        bits = (values[i].astype(np.float32) + np.float32(0)).view(np.int32)  # -0 + 0 is 0
        for j in range(len(bits)):
            key = bits[j] ^ ((bits[j] >> 31) & 0x7FFFFFFF)
            index = np.uint32((key >> shift) + middle)
            counts[index] += np.uint32(1)
            touched[index >> PAGE] = True


@jit()
def insert(distances: NDArray[Any], indices: Integers, held: int, distance: float, index: int) -> None:
    """Insert into `held` sorted entries, behind equal distances; the last entry of a full list falls out."""
    last = min(held, len(distances) - 1)
    while last > 0 and distances[last - 1] > distance:
        distances[last], indices[last] = distances[last - 1], indices[last - 1]
        last -= 1
    distances[last], indices[last] = distance, index


@jit()
def nearest_in_row(row: NDArray[Any], first: int, distances: NDArray[Any], indices: Integers) -> None:
    """Add a row to a list of the smallest entries, smallest first and ties by position.

    Args:
        row: (G,) distances, without NaN; infinite ones are never listed.
        first: Position of the row's first entry; all that are listed already come before.
        distances: (k,) list, filled up with infinity.
        indices: (k,) positions of its entries, filled up with -1.
    """
    held = 0
    while held < len(indices) and indices[held] >= 0:
        held += 1
    bound = distances[-1]
    for start in range(0, len(row), GLANCE):
        part = row[start : start + GLANCE]
        if len(part) == GLANCE:
            least = part[0]
            for j in range(len(part)):
                least = min(least, part[j])
            if least >= bound:
                continue
        for j in range(len(part)):
            if part[j] < bound:  # an equal one comes later than k others
                insert(distances, indices, held, part[j], first + start + j)
                held = min(held + 1, len(distances))
                bound = distances[-1]


@jit()
def nearest(
    values: NDArray[Any], junk: Integers, junk_offsets: Integers, distances: NDArray[Any], indices: Integers
) -> None:
    """`nearest_in_row` for each row of (B, G) without the query's junk, which is given as for `match_ranks`.

    Args:
        values: (B, G) distances, without NaN.
        junk: (J,).
        junk_offsets: (B + 1,).
        distances: (B, k) filled with infinity; is set to the nearest distances.
        indices: (B, k) filled with -1; is set to their gallery indices.
    """
    for i in range(len(values)):
        row = values[i]
        own = junk[junk_offsets[i] : junk_offsets[i + 1]]
        saved = np.empty(len(own), row.dtype)
        for k in range(len(own)):
            saved[k] = row[own[k]]
            row[own[k]] = np.inf
        nearest_in_row(row, 0, distances[i], indices[i])
        for k in range(len(own)):
            row[own[k]] = saved[k]


@jit()
def nearest_to_rest(
    values: NDArray[Any], first: int, distances: NDArray[Any], indices: Integers, largest: NDArray[Any]
) -> None:
    """Add the rows of a block to the lists of its samples.

    Args:
        values: (B, N - first) distances of samples to themselves and all that come after them.
        first: The sample of the first column; all before are listed already.
        distances: (B, k) lists as for `nearest_in_row`.
        indices: (B, k) likewise.
        largest: (B,) each row's largest distance so far.
    """
    for i in range(len(values)):
        nearest_in_row(values[i], first, distances[i], indices[i])
        most = largest[i]
        for j in range(len(values[i])):
            most = max(most, values[i, j])
        largest[i] = most


@jit()
def nearest_to_block(
    values: NDArray[Any], first: int, distances: NDArray[Any], indices: Integers, largest: Any
) -> None:
    """Add the columns of a block to the lists of the samples that come after it: the same distances the other way.

    Args:
        values: (B, M) distances of the samples from `first` on to M that come after them.
        first: The sample of the first row; all before are listed already.
        distances: (M, k) lists as for `nearest_in_row`.
        indices: (M, k) likewise.
        largest: (M,) each column's largest distance so far.
    """
    bound = np.empty(GLANCE, values.dtype)
    most = np.empty(GLANCE, values.dtype)
    for start in range(0, values.shape[1], GLANCE):
        width = min(GLANCE, values.shape[1] - start)
        for j in range(width):
            bound[j], most[j] = distances[start + j, -1], largest[start + j]
        for i in range(len(values)):
            part = values[i, start : start + width]
            nearer = np.int32(0)
            for j in range(len(part)):
                nearer = np.int32(nearer + np.int32(part[j] < bound[j]))
                most[j] = max(most[j], part[j])
            if nearer == 0:
                continue
            for j in range(len(part)):
                if part[j] < bound[j]:
                    held = 0
                    while held < indices.shape[1] and indices[start + j, held] >= 0:
                        held += 1
                    insert(distances[start + j], indices[start + j], held, part[j], first + i)
                    bound[j] = distances[start + j, -1]
        for j in range(width):
            largest[start + j] = most[j]
