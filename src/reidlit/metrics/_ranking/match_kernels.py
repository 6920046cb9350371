"""Numba kernels over a tile of distances: none sorts a row, and all are plain loops, which compile in a second.

Only a match that is far from its query is compared with each entry of the gallery, 16 to an instruction.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.metrics._ranking.list_kernels import nearest_in_row
from reidlit.metrics._ranking.numba_cache import jit
from reidlit.metrics._ranking.row_kernels import (
    PIECE,
    STRIDE,
    count_below,
    count_within,
    entries_within,
    num_pieces,
    rank_in_row,
    take_row,
)
from reidlit.metrics._ranking.types import Integers

# Entries that one match after the other is compared with while they stay in the first-level cache.
CHUNK = 4096
# Bits of a float32 that a bin of a histogram leaves out.
SHIFT = 8
# A page of a histogram has 2^PAGE bins.
PAGE = 12
# A match is near if no more than one set in so many holds an entry that is as near.
NEAR = 16


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
        where: As many as sets that may be that near hold; begins with all that is as near as the near matches, by
            `entries_within`.
        distances: Likewise.
        ranks: (M,) is set to the 1-based ranks.

    Returns:
        How many entries are as near as the near matches.
    """
    limit = len(least) // NEAR
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
        row: (pieces * PIECE,) distances by `take_row`.
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
    """The bits of a distance as float32 that name its bin (`histogram`)."""
    return np.uint32(np.float32(distance).view(np.uint32) >> np.uint32(SHIFT))


@jit()
def count_bins(row: NDArray[Any], counts: NDArray[np.uint32], touched: NDArray[np.bool_]) -> None:
    """Add a row to a histogram of distances over bins of equal leading bits (`histogram`).

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
def rank_rows(
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
    """Rank some rows of a tile, one row after the other, while it is in the cache.

    Each query is treated by itself: neither the tile nor the threads change a result.

    Args:
        values: (B, G) distances without NaN, or inner products to be finished; not changed.
        start: First row to rank.
        stop: Row after the last.
        affine: base (B,), offset (G,) and factor for `finish_row`; empty arrays where the rows are finished.
        relevance: matches (M,), query after query, query i owning `matches[offsets[i]:offsets[i + 1]]`; their offsets
            (B + 1,); junk (J,) and its offsets likewise.
        ranks: (M,) is set to the ranks of the matches among the gallery without the junk, from 1.
        groups: `order`, `place`, `group` and `group_offsets` as for `group_ranks_in_row`.
        group_ranks: (M,) is set to the ranks of the matches in their groups; empty if not requested.
        counts: As for `count_bins`; empty if not requested.
        touched: Likewise.
        distances: (B, k) filled with infinity, is set to the nearest distances without the junk; k may be 0.
        indices: (B, k) filled with -1, is set to their gallery indices.
    """
    base, offset, factor = affine
    matches, match_offsets, junk, junk_offsets = relevance
    order, place, group, group_offsets = groups
    pieces = num_pieces(values.shape[1])
    row, least = np.empty(pieces * PIECE, values.dtype), np.empty(pieces * STRIDE, values.dtype)
    most = len(least) // NEAR * (PIECE // STRIDE)  # what the sets that may be as near as a near match hold
    where, found = np.empty(most, np.int32), np.empty(most, values.dtype)
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
