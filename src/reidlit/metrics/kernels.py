"""Numba kernels over a block of distances: none sorts a row, and all are plain loops, which compile in a second.

A row is read once, for the minima of small sets of its entries; from then on whatever looks for near entries passes over
the sets that hold none. Only a match that is far from its query is compared with each entry of the gallery, 16 to an
instruction.

All are in one file, because Numba's cache does not see that a function of another file has changed.
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
# Entries of a column of which only the number that are near enough is looked at while a list of nearest entries is full.
GLANCE = 64
# The sets of a row: in each piece, entries that stand STRIDE apart, so that one instruction compares 16 sets.
PIECE = 1024
STRIDE = 64
# A match is near if no more than one set in so many holds an entry that is as near.
NEAR = 16


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
def num_pieces(size: int) -> int:
    """How many pieces a row of `size` entries has."""
    return (size + PIECE - 1) // PIECE


@jit()
def least_of_four(values: NDArray[Any], least: NDArray[Any]) -> None:
    """Minimum of each four of 4 N entries that stand N apart.

    Args:
        values: (4 N,).
        least: (N,) is set to the minima. A minimum that replaced an entry of its own array would be a masked store, which
            some processors are slow at.
    """
    apart = len(least)
    first, second, third, fourth = (
        values[:apart],
        values[apart : 2 * apart],
        values[2 * apart : 3 * apart],
        values[3 * apart : 4 * apart],
    )
    for s in range(apart):
        least[s] = min(min(first[s], second[s]), min(third[s], fourth[s]))


@jit()
def take_row(
    values: NDArray[Any], base: float, offset: NDArray[Any], factor: float, row: NDArray[Any], least: NDArray[Any]
) -> None:
    """Copy a row and look for the minimum of each set, a piece after the other, while it is in the cache.

    Args:
        values: (G,) distances without NaN, or inner products to be finished.
        base: As for `finish_row`.
        offset: Likewise, (G,); empty if the row is finished.
        factor: Likewise.
        row: (pieces * PIECE,) is set to the distances; infinite beyond G.
        least: (pieces * STRIDE,) is set to the minima.
    """
    quarter = np.empty(PIECE // 4, row.dtype)
    for start in range(0, len(row), PIECE):
        source, piece = values[start : start + PIECE], row[start : start + PIECE]
        for j in range(len(source)):
            piece[j] = source[j]
        if len(offset) > 0:
            finish_row(piece[: len(source)], base, offset[start : start + PIECE], factor)
        for j in range(len(source), PIECE):
            piece[j] = np.inf
        first = start // PIECE * STRIDE
        least_of_four(piece, quarter)
        least_of_four(quarter, least[first : first + STRIDE])


@jit()
def entries_within(
    row: NDArray[Any], least: NDArray[Any], distance: Any, where: NDArray[np.int32], distances: NDArray[Any]
) -> int:
    """Find the entries that are `distance` or less.

    Args:
        row: (pieces * PIECE,) distances by `take_row`.
        least: (pieces * STRIDE,) minima of its sets.
        distance: The bound, less than infinity.
        where: (N,) or more, is set to the positions of the N entries found, in no order.
        distances: (N,) or more, likewise to their distances.

    Returns:
        N.
    """
    found = 0
    for n in range(len(least) // STRIDE):
        minima, piece = least[n * STRIDE : (n + 1) * STRIDE], row[n * PIECE : (n + 1) * PIECE]
        for s in range(STRIDE):
            if minima[s] <= distance:
                for line in range(PIECE // STRIDE):
                    if piece[line * STRIDE + s] <= distance:
                        where[found] = n * PIECE + line * STRIDE + s
                        distances[found] = piece[line * STRIDE + s]
                        found += 1
    return found


@jit()
def rank_among(
    where: NDArray[np.int32],
    distances: NDArray[Any],
    place: np.int32,
    distance: Any,
    group: NDArray[np.int32],
    own: np.int32,
) -> np.int32:
    """How many of the entries at `where` (N,) come up to the one at `place` with `distance`.

    Only those whose `group` (N,) is `own` count; all do where `group` is empty.
    """
    count = np.int32(0)
    for n in range(len(where)):
        before = (distances[n] < distance) | ((distances[n] == distance) & (where[n] <= place))
        if len(group) > 0:
            before &= group[n] == own
        count = np.int32(count + np.int32(before))
    return count


@jit()
def match_ranks_in_row(
    row: NDArray[Any],
    least: NDArray[Any],
    matches: Integers,
    junk: Integers,
    near: NDArray[np.bool_],
    where: NDArray[np.int32],
    distances: NDArray[Any],
    ranks: Integers,
) -> int:
    """Ranks of a query's matches among the gallery without the query's junk.

    Args:
        row: (pieces * PIECE,) distances by `take_row`.
        least: (pieces * STRIDE,) minima of its sets.
        matches: (M,) gallery indices.
        junk: (J,) gallery indices to leave out.
        near: (M,) is set to which matches are near.
        where: (pieces * STRIDE,) begins with all that is as near as the near matches, by `entries_within`.
        distances: (pieces * STRIDE,) likewise.
        ranks: (M,) is set to the 1-based ranks.

    Returns:
        How many entries are as near as the near matches.
    """
    limit = len(least) // NEAR  # a set has 16 entries, so that `where` holds all that may be found
    bound = row.dtype.type(-np.inf)  # a float64 would make each comparison one
    num_near = 0
    for m in range(len(matches)):
        near[m] = count_within(least, row[matches[m]]) <= limit
        if near[m]:
            num_near += 1
            bound = max(bound, row[matches[m]])
    found = entries_within(row, least, bound, where, distances) if num_near > 0 else 0
    every = np.empty(0, np.int32)
    for m in range(len(matches)):
        ranks[m] = 0
        if near[m]:
            ranks[m] = rank_among(
                where[:found], distances[:found], np.int32(matches[m]), row[matches[m]], every, np.int32(0)
            )
    if num_near < len(matches):
        # One match after the other is compared with a piece of the row while that is in the cache.
        for start in range(0, len(row), CHUNK):
            stop = min(start + CHUNK, len(row))
            for m in range(len(matches)):
                if not near[m]:
                    distance = row[matches[m]]
                    # Of equal distances the one with the lower index comes first.
                    split = min(max(matches[m] + 1, start), stop)
                    ranks[m] += count_within(row[start:split], distance) + count_below(row[split:stop], distance)
    for j in junk:
        for m in range(len(matches)):
            other = matches[m]
            ranks[m] -= row[j] < row[other] or (row[j] == row[other] and j < other)
    return found


@jit()
def group_ranks_in_row(
    row: NDArray[Any],
    matches: Integers,
    near: NDArray[np.bool_],
    where: NDArray[np.int32],
    distances: NDArray[Any],
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
        near: (M,) which of them are near.
        where: (N,) gallery indices of all that is as near as those.
        distances: (N,) their distances.
        order: (G,) gallery indices, group after group, ascending within a group.
        place: (G,) where each gallery entry stands in `order`.
        group: (G,) the group of each gallery entry, from 0.
        group_offsets: (groups + 1,) group c is `order[group_offsets[c]:group_offsets[c + 1]]`.
        grouped: (G,) room to work in.
        ranks: (M,) is set to the 1-based ranks.
    """
    found_group = np.empty(len(where), np.int32)
    for n in range(len(where)):
        found_group[n] = group[where[n]]
    is_grouped = np.zeros(len(group_offsets) - 1, np.bool_)
    for m in range(len(matches)):
        distance, own = row[matches[m]], group[matches[m]]
        if near[m]:
            ranks[m] = rank_among(where, distances, np.int32(matches[m]), distance, found_group, np.int32(own))
            continue
        start, stop = group_offsets[own], group_offsets[own + 1]
        if not is_grouped[own]:
            for n in range(start, stop):
                grouped[n] = row[order[n]]
            is_grouped[own] = True
        ranks[m] = rank_in_row(grouped[start:stop], place[matches[m]] - start)


@jit()
def leading_bits(distance: Any) -> np.uint32:
    """The bits of a distance as float32 that name its bin (`bins`)."""
    return np.uint32(np.float32(distance).view(np.uint32) >> np.uint32(SHIFT))


@jit()
def count_bins(row: NDArray[Any], counts: NDArray[np.uint32], touched: NDArray[np.bool_]) -> None:
    """Add a row to a histogram of distances over bins of equal leading bits (`bins`).

    Args:
        row: (G,) distances without NaN.
        counts: (bins,), changed in place.
        touched: (pages,) is set where a bin of that page of the counts was changed, so that few have to be read again.
    """
    page = np.uint32(PAGE)
    whole = len(row) // 4 * 4
    for j in range(0, whole, 4):  # four at a time, because a bin is seldom in the first-level cache
        a, b = leading_bits(row[j]), leading_bits(row[j + 1])
        c, d = leading_bits(row[j + 2]), leading_bits(row[j + 3])
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
    for j in range(whole, len(row)):
        a = leading_bits(row[j])
        counts[a] += np.uint32(1)
        touched[a >> page] = True


@jit()
def insert(distances: NDArray[Any], indices: Integers, held: int, distance: float, index: int) -> None:
    """Insert into `held` entries, sorted by distance and then by index; the last entry of a full list falls out."""
    last = min(held, len(distances) - 1)
    while last > 0 and (
        distances[last - 1] > distance or (distances[last - 1] == distance and indices[last - 1] > index)
    ):
        distances[last], indices[last] = distances[last - 1], indices[last - 1]
        last -= 1
    distances[last], indices[last] = distance, index


@jit()
def num_held(indices: Integers) -> int:
    """Number of entries in a list that is filled up with -1."""
    held = 0
    while held < len(indices) and indices[held] >= 0:
        held += 1
    return held


@jit()
def nearest_in_row(
    row: NDArray[Any], least: NDArray[Any], first: int, num_passed: int, distances: NDArray[Any], indices: Integers
) -> None:
    """Add a row to a list of the smallest entries, smallest first and ties by position.

    Args:
        row: (pieces * PIECE,) distances by `take_row`; infinite ones are never listed.
        least: (pieces * STRIDE,) minima of its sets, or less.
        first: Position of the row's first entry; all that are listed already come before.
        num_passed: Of how many sets at most the minimum is less than that of their entries.
        distances: (k,) list, filled up with infinity.
        indices: (k,) positions of its entries, filled up with -1.
    """
    held = num_held(indices)
    bound = distances[-1]
    enough = len(distances) + num_passed
    if held == 0 and len(least) // 4 >= enough:
        # So many groups of sets reach down to here, and k of them with an entry, so none beyond is among the k smallest.
        groups = np.empty(len(least) // 4, least.dtype)
        least_of_four(least, groups)
        bound = np.partition(groups, enough - 1)[enough - 1]
    for n in range(len(least) // STRIDE):
        minima, piece = least[n * STRIDE : (n + 1) * STRIDE], row[n * PIECE : (n + 1) * PIECE]
        for s in range(STRIDE):
            if minima[s] > bound or minima[s] > distances[-1]:
                continue
            for line in range(PIECE // STRIDE):
                distance, index = piece[line * STRIDE + s], first + n * PIECE + line * STRIDE + s
                if distance > bound or distance > distances[-1]:
                    continue
                if distance < distances[-1] or index < indices[-1]:
                    insert(distances, indices, held, distance, index)
                    held = min(held + 1, len(distances))


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
    counts: NDArray[np.uint32],
    touched: NDArray[np.bool_],
    distances: NDArray[Any],
    indices: Integers,
) -> None:
    """Answer all that is asked of some rows, one row after the other, while it is in the cache.

    Each query is treated by itself: neither the block nor the threads change a result.

    Args:
        values: (B, G) distances without NaN, or inner products to be finished; not changed.
        start: First row to answer for.
        stop: Row after the last.
        affine: base (B,), offset (G,) and factor for `finish_row`; empty arrays where the rows are finished.
        relevance: matches (M,), query after query, query i owning `matches[offsets[i]:offsets[i + 1]]`; their offsets
            (B + 1,); junk (J,) and its offsets likewise.
        ranks: (M,) is set to the ranks of the matches among the gallery without the junk, from 1.
        groups: `order`, `place`, `group` and `group_offsets` as for `group_ranks_in_row`.
        group_ranks: (M,) is set to the ranks of the matches in their groups; empty if not asked for.
        counts: As for `count_bins`; empty if not asked for.
        touched: Likewise.
        distances: (B, k) filled with infinity, is set to the nearest distances without the junk; k may be 0.
        indices: (B, k) filled with -1, is set to their gallery indices.
    """
    base, offset, factor = affine
    matches, match_offsets, junk, junk_offsets = relevance
    order, place, group, group_offsets = groups
    pieces = num_pieces(values.shape[1])
    row, least = np.empty(pieces * PIECE, values.dtype), np.empty(pieces * STRIDE, values.dtype)
    where, found = np.empty(len(least), np.int32), np.empty(len(least), values.dtype)
    grouped = np.empty(len(order), values.dtype)
    for i in range(start, stop):
        take_row(values[i], base[i] if len(base) > 0 else base.dtype.type(0), offset, factor, row, least)
        own = matches[match_offsets[i] : match_offsets[i + 1]]
        own_ranks = ranks[match_offsets[i] : match_offsets[i + 1]]
        own_junk = junk[junk_offsets[i] : junk_offsets[i + 1]]
        near = np.empty(len(own), np.bool_)
        count = match_ranks_in_row(row, least, own, own_junk, near, where, found, own_ranks)
        if len(group_ranks) > 0:
            own_ranks = group_ranks[match_offsets[i] : match_offsets[i + 1]]
            group_ranks_in_row(
                row, own, near, where[:count], found[:count], order, place, group, group_offsets, grouped, own_ranks
            )
        if len(counts) > 0:
            count_bins(row[: values.shape[1]], counts, touched)
        if distances.shape[1] > 0:
            for j in own_junk:
                row[j] = np.inf
            nearest_in_row(row, least, 0, len(own_junk), distances[i], indices[i])


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
    pieces = num_pieces(values.shape[1])
    row, least = np.empty(pieces * PIECE, values.dtype), np.empty(pieces * STRIDE, values.dtype)
    finished = np.empty(0, values.dtype)
    for i in range(len(values)):
        take_row(values[i], values.dtype.type(0), finished, 1.0, row, least)
        nearest_in_row(row, least, first, 0, distances[i], indices[i])
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
                    held = num_held(indices[start + j])
                    insert(distances[start + j], indices[start + j], held, part[j], first + i)
                    bound[j] = distances[start + j, -1]
        for j in range(width):
            largest[start + j] = most[j]
