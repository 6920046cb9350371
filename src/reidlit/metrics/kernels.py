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
# Bits of a float32 that a bin of a histogram leaves out.
SHIFT = 8
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
def match_ranks_in_row(row: NDArray[Any], matches: Integers, junk: Integers, ranks: Integers) -> None:
    """Ranks of a query's matches among the gallery without the query's junk.

    Args:
        row: (G,) distances, without NaN.
        matches: (M,) gallery indices.
        junk: (J,) gallery indices to leave out.
        ranks: (M,) is set to the 1-based ranks.
    """
    ranks_in_row(row, matches, ranks)
    for j in junk:
        for m in range(len(matches)):
            other = matches[m]
            ranks[m] -= row[j] < row[other] or (row[j] == row[other] and j < other)


@jit()
def group_ranks_in_row(
    row: NDArray[Any],
    matches: Integers,
    order: NDArray[np.uint32],
    place: Integers,
    group: Integers,
    group_offsets: Integers,
    grouped: NDArray[Any],
    ranks: Integers,
) -> None:
    """Rank of each match among the gallery entries of its own group, such as those of one camera.

    Args:
        row: (G,) distances, without NaN.
        matches: (M,) gallery indices.
        order: (G,) gallery indices, group after group, ascending within a group.
        place: (G,) where each gallery entry stands in `order`.
        group: (G,) the group of each gallery entry, from 0.
        group_offsets: (groups + 1,) group c is `order[group_offsets[c]:group_offsets[c + 1]]`.
        grouped: (G,) room to work in.
        ranks: (M,) is set to the 1-based ranks.
    """
    for j in range(len(order)):
        grouped[j] = row[order[j]]
    for m in range(len(matches)):
        start, stop = group_offsets[group[matches[m]]], group_offsets[group[matches[m]] + 1]
        ranks[m] = rank_in_row(grouped[start:stop], place[matches[m]] - start)


@jit()
def count_bins(bits: NDArray[np.uint32], counts: NDArray[np.uint32], touched: NDArray[np.bool_]) -> None:
    """Add a row to a histogram of distances over bins of equal leading bits (`bins`).

    Args:
        bits: (G,) of float32 distances without NaN.
        counts: (bins,), changed in place.
        touched: (pages,) is set where a bin of that page of the counts was changed, so that few have to be read again.
    """
    shift, page = np.uint32(SHIFT), np.uint32(PAGE)
    whole = len(bits) // 4 * 4
    for j in range(0, whole, 4):  # four at a time, because a bin is seldom in the first-level cache
        a, b = np.uint32(bits[j] >> shift), np.uint32(bits[j + 1] >> shift)
        c, d = np.uint32(bits[j + 2] >> shift), np.uint32(bits[j + 3] >> shift)
        count_a = counts[a]
        counts[a] = count_a + np.uint32(1)
        count_b = counts[b]
        counts[b] = count_b + np.uint32(1)
        count_c = counts[c]
        counts[c] = count_c + np.uint32(1)
        count_d = counts[d]
        counts[d] = count_d + np.uint32(1)
        if count_a == 0 or count_b == 0 or count_c == 0 or count_d == 0:
            touched[a >> page] = touched[b >> page] = touched[c >> page] = touched[d >> page] = True
    for j in range(whole, len(bits)):
        a = np.uint32(bits[j] >> shift)
        counts[a] += np.uint32(1)
        touched[a >> page] = True


@jit()
def insert(distances: NDArray[Any], indices: Integers, held: int, distance: float, index: int) -> None:
    """Insert into `held` sorted entries, behind equal distances; the last entry of a full list falls out."""
    last = min(held, len(distances) - 1)
    while last > 0 and distances[last - 1] > distance:
        distances[last], indices[last] = distances[last - 1], indices[last - 1]
        last -= 1
    distances[last], indices[last] = distance, index


@jit()
def nearest_in_row(
    row: NDArray[Any], first: int, distances: NDArray[Any], indices: Integers, least: NDArray[Any]
) -> None:
    """Add a row to a list of the smallest entries, smallest first and ties by position.

    Args:
        row: (G,) distances, without NaN; infinite ones are never listed.
        first: Position of the row's first entry; all that are listed already come before.
        distances: (k,) list, filled up with infinity.
        indices: (k,) positions of its entries, filled up with -1.
        least: (glances + 1,) room to work in, one for each GLANCE of the row that was begun.
    """
    held = 0
    while held < len(indices) and indices[held] >= 0:
        held += 1
    glances = (len(row) + GLANCE - 1) // GLANCE
    for n in range(glances):
        part = row[n * GLANCE : (n + 1) * GLANCE]
        smallest = part[0]
        for j in range(len(part)):
            smallest = min(smallest, part[j])
        least[n] = smallest
    bound = distances[-1]
    if held == 0 and glances >= len(distances):
        # k glances have an entry up to here, so none beyond is among the k smallest.
        bound = np.partition(least[:glances], len(distances) - 1)[len(distances) - 1]
    for n in range(glances):
        if not (least[n] <= bound and least[n] < distances[-1]):
            continue
        part = row[n * GLANCE : (n + 1) * GLANCE]
        for j in range(len(part)):
            if part[j] <= bound and part[j] < distances[-1]:  # an equal one comes later than k others
                insert(distances, indices, held, part[j], first + n * GLANCE + j)
                held = min(held + 1, len(distances))


@jit()
def nearest_without(
    row: NDArray[Any], left_out: Integers, distances: NDArray[Any], indices: Integers, least: NDArray[Any]
) -> None:
    """`nearest_in_row` for an empty list, without some entries (J,)."""
    saved = np.empty(len(left_out), row.dtype)
    for k in range(len(left_out)):
        saved[k] = row[left_out[k]]
        row[left_out[k]] = np.inf
    nearest_in_row(row, 0, distances, indices, least)
    for k in range(len(left_out)):
        row[left_out[k]] = saved[k]


@jit()
def answer(
    values: NDArray[Any],
    start: int,
    stop: int,
    affine: tuple[NDArray[Any], NDArray[Any], float],
    relevance: tuple[Integers, Integers, Integers, Integers],
    ranks: Integers,
    groups: tuple[NDArray[np.uint32], Integers, Integers, Integers],
    group_ranks: Integers,
    bits: NDArray[np.uint32],
    counts: NDArray[np.uint32],
    touched: NDArray[np.bool_],
    distances: NDArray[Any],
    indices: Integers,
) -> None:
    """Answer all that is asked of some rows, one row after the other, while it is in the cache.

    Each query is treated by itself: neither the block nor the threads change a result.

    Args:
        values: (B, G) distances without NaN, or inner products to be finished.
        start: First row to answer for.
        stop: Row after the last.
        affine: base (B,), offset (G,) and factor for `finish_row`; empty arrays where the rows are finished.
        relevance: matches (M,), query after query, query i owning `matches[offsets[i]:offsets[i + 1]]`; their offsets
            (B + 1,); junk (J,) and its offsets likewise.
        ranks: (M,) is set to the ranks of the matches among the gallery without the junk, from 1.
        groups: `order`, `place`, `group` and `group_offsets` as for `group_ranks_in_row`.
        group_ranks: (M,) is set to the ranks of the matches in their groups; empty if not asked for.
        bits: (B, G) of the values as float32; sharing their memory where they are to be finished.
        counts: As for `count_bins`; empty if not asked for.
        touched: Likewise.
        distances: (B, k) filled with infinity, is set to the nearest distances without the junk; k may be 0.
        indices: (B, k) filled with -1, is set to their gallery indices.
    """
    base, offset, factor = affine
    matches, match_offsets, junk, junk_offsets = relevance
    order, place, group, group_offsets = groups
    room = np.empty(values.shape[1] + 1, values.dtype)
    for i in range(start, stop):
        row = values[i]
        if len(base) > 0:
            finish_row(row, base[i], offset, factor)
        first, last = match_offsets[i], match_offsets[i + 1]
        own_junk = junk[junk_offsets[i] : junk_offsets[i + 1]]
        match_ranks_in_row(row, matches[first:last], own_junk, ranks[first:last])
        if len(group_ranks) > 0:
            group_ranks_in_row(
                row, matches[first:last], order, place, group, group_offsets, room, group_ranks[first:last]
            )
        if len(counts) > 0:
            count_bins(bits[i], counts, touched)
        if distances.shape[1] > 0:
            nearest_without(row, own_junk, distances[i], indices[i], room)


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
    least = np.empty(values.shape[1] // GLANCE + 1, values.dtype)
    for i in range(len(values)):
        nearest_in_row(values[i], first, distances[i], indices[i], least)
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
