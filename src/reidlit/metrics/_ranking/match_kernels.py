"""Numba kernels for a tile of distances.

No kernel sorts a row. All are plain loops, which compile within a second. Only matches that are far from their query
are compared with all gallery entries, 16 per vector instruction.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.metrics._ranking.list_kernels import nearest_in_row
from reidlit.metrics._ranking.numba_cache import jit
from reidlit.metrics._ranking.row_kernels import (
    PIECE,
    STRIDE,
    copy_row,
    count_below,
    count_within,
    entries_within,
    num_pieces,
    rank_in_row,
)
from reidlit.metrics._ranking.types import Integers

# Entries that are compared with all far matches while they are in the first-level cache.
CHUNK = 4096
# Trailing bits of a float32 that histogram bins ignore.
SHIFT = 8
# A page of the histogram has 2^PAGE bins.
PAGE = 12
# A match is near if at most one in NEAR sets contains an entry that is at least as near.
NEAR = 16


@jit()
def rank_among(
    positions: NDArray[np.int32],
    distances: NDArray[Any],
    position: np.int32,
    distance: Any,
    entry_groups: NDArray[np.int32],
    group: np.int32,
) -> np.int32:
    """Return the 1-based rank of an entry among the entries at `positions` (N,), which include it.

    If `entry_groups` (N,) is not empty, only entries of the given group count.
    """
    count = np.int32(0)
    for n in range(len(positions)):
        precedes = (distances[n] < distance) | ((distances[n] == distance) & (positions[n] <= position))
        if len(entry_groups) > 0:
            precedes &= entry_groups[n] == group
        count = np.int32(count + np.int32(precedes))
    return count


@jit()
def match_ranks_in_row(
    row: NDArray[Any],
    least: NDArray[Any],
    matches: Integers,
    junk: Integers,
    near: NDArray[np.bool_],
    positions: NDArray[np.int32],
    distances: NDArray[Any],
    ranks: Integers,
) -> int:
    """Rank the matches of a query among the gallery without its junk.

    Args:
        row: (pieces * PIECE,) distances from `copy_row`.
        least: (pieces * STRIDE,) minima of the sets of the row.
        matches: (M,) gallery indices of the matches.
        junk: (J,) gallery indices to exclude.
        near: (M,) output array, True for near matches.
        positions: Output array for the positions of all entries within the distance of the farthest near match. It is
            large enough for the sets that can contain such entries.
        distances: Output array for the distances of these entries.
        ranks: (M,) output array for the 1-based ranks.

    Returns:
        Number of entries within the distance of the farthest near match.
    """
    limit = len(least) // NEAR
    bound = row.dtype.type(-np.inf)  # float64 would convert every comparison
    num_near = 0
    for m in range(len(matches)):
        near[m] = count_within(least, row[matches[m]]) <= limit
        if near[m]:
            num_near += 1
            bound = max(bound, row[matches[m]])
    num_within = entries_within(row, least, bound, positions, distances) if num_near > 0 else 0
    no_groups = np.empty(0, np.int32)
    for m in range(len(matches)):
        ranks[m] = 0
        if near[m]:
            ranks[m] = rank_among(
                positions[:num_within],
                distances[:num_within],
                np.int32(matches[m]),
                row[matches[m]],
                no_groups,
                np.int32(0),
            )
    if num_near < len(matches):
        # Compare all far matches with a chunk of the row while it is in the cache.
        for start in range(0, len(row), CHUNK):
            stop = min(start + CHUNK, len(row))
            for m in range(len(matches)):
                if not near[m]:
                    distance = row[matches[m]]
                    # Of equal distances, the lower index ranks first.
                    split = min(max(matches[m] + 1, start), stop)
                    ranks[m] += count_within(row[start:split], distance) + count_below(row[split:stop], distance)
    for j in junk:
        for m in range(len(matches)):
            match = matches[m]
            ranks[m] -= row[j] < row[match] or (row[j] == row[match] and j < match)
    return num_within


@jit()
def group_ranks_in_row(
    row: NDArray[Any],
    matches: Integers,
    near: NDArray[np.bool_],
    positions: NDArray[np.int32],
    distances: NDArray[Any],
    order: NDArray[np.uint32],
    position_in_order: Integers,
    group: Integers,
    group_offsets: Integers,
    grouped: NDArray[Any],
    ranks: Integers,
) -> None:
    """Rank each match among the gallery entries of its group, such as a camera.

    Args:
        row: (pieces * PIECE,) distances from `copy_row`.
        matches: (M,) gallery indices of the matches.
        near: (M,) True for near matches.
        positions: (N,) gallery indices of all entries within the distance of the farthest near match.
        distances: (N,) distances of these entries.
        order: (G,) gallery indices sorted by group, ascending within a group.
        position_in_order: (G,) position of each gallery entry in `order`.
        group: (G,) group of each gallery entry, from 0.
        group_offsets: (groups + 1,) group c is `order[group_offsets[c]:group_offsets[c + 1]]`.
        grouped: (G,) scratch array for distances in the order of `order`.
        ranks: (M,) output array for the 1-based ranks.
    """
    entry_groups = np.empty(len(positions), np.int32)
    for n in range(len(positions)):
        entry_groups[n] = group[positions[n]]
    is_grouped = np.zeros(len(group_offsets) - 1, np.bool_)
    for m in range(len(matches)):
        distance, match_group = row[matches[m]], group[matches[m]]
        if near[m]:
            ranks[m] = rank_among(
                positions, distances, np.int32(matches[m]), distance, entry_groups, np.int32(match_group)
            )
            continue
        start, stop = group_offsets[match_group], group_offsets[match_group + 1]
        if not is_grouped[match_group]:
            for n in range(start, stop):
                grouped[n] = row[order[n]]
            is_grouped[match_group] = True
        ranks[m] = rank_in_row(grouped[start:stop], position_in_order[matches[m]] - start)


@jit()
def leading_bits(distance: Any) -> np.uint32:
    """Return the leading bits of a float32 distance, which identify its histogram bin."""
    return np.uint32(np.float32(distance).view(np.uint32) >> np.uint32(SHIFT))


@jit()
def count_bins(row: NDArray[Any], counts: NDArray[np.uint32], touched: NDArray[np.bool_]) -> None:
    """Add a row to a histogram of distances with bins of equal leading bits, see `histogram`.

    Args:
        row: (G,) distances without NaN.
        counts: (bins,) counts, modified in place.
        touched: (pages,) set to True for pages with a modified bin, so that only these are read later.
    """
    page = np.uint32(PAGE)
    unrolled = len(row) // 4 * 4
    for j in range(0, unrolled, 4):  # four at a time, because bins are rarely in the first-level cache
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
    for j in range(unrolled, len(row)):
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
    """Rank some rows of a tile, one by one, while each is in the cache.

    Each query is processed independently, so the tile and the number of threads do not affect the results.

    Args:
        values: (B, G) distances without NaN, or inner products; not modified.
        start: First row to rank.
        stop: Row after the last one.
        affine: Base (B,), offset (G,) and factor of `finish_row`; empty arrays if `values` are distances.
        relevance: Matches (M,) by query, their offsets (B + 1,), junk (J,) by query and its offsets (B + 1,), as in
            `Relevance`.
        ranks: (M,) output array for the 1-based ranks of the matches among the gallery without junk.
        groups: Arguments `order`, `position_in_order`, `group` and `group_offsets` of `group_ranks_in_row`.
        group_ranks: (M,) output array for the 1-based ranks of the matches in their groups; empty if not requested.
        counts: Argument of `count_bins`; empty if not requested.
        touched: Argument of `count_bins`; empty if not requested.
        distances: (B, k) output array for the nearest distances without junk, filled with infinity; k may be 0.
        indices: (B, k) output array for their gallery indices, filled with -1.
    """
    base, offset, factor = affine
    matches, match_offsets, junk, junk_offsets = relevance
    order, position_in_order, group, group_offsets = groups
    pieces = num_pieces(values.shape[1])
    row, least = np.empty(pieces * PIECE, values.dtype), np.empty(pieces * STRIDE, values.dtype)
    capacity = len(least) // NEAR * (PIECE // STRIDE)  # entries in all sets that a near match can have in reach
    positions, within = np.empty(capacity, np.int32), np.empty(capacity, values.dtype)
    grouped = np.empty(len(order), values.dtype)
    for i in range(start, stop):
        copy_row(values[i], base[i] if len(base) > 0 else base.dtype.type(0), offset, factor, row, least)
        row_matches = matches[match_offsets[i] : match_offsets[i + 1]]
        row_ranks = ranks[match_offsets[i] : match_offsets[i + 1]]
        row_junk = junk[junk_offsets[i] : junk_offsets[i + 1]]
        near = np.empty(len(row_matches), np.bool_)
        count = match_ranks_in_row(row, least, row_matches, row_junk, near, positions, within, row_ranks)
        if len(group_ranks) > 0:
            group_ranks_in_row(
                row,
                row_matches,
                near,
                positions[:count],
                within[:count],
                order,
                position_in_order,
                group,
                group_offsets,
                grouped,
                group_ranks[match_offsets[i] : match_offsets[i + 1]],
            )
        if len(counts) > 0:
            count_bins(row[: values.shape[1]], counts, touched)
        if distances.shape[1] > 0:
            for j in row_junk:
                row[j] = np.inf
            nearest_in_row(row, least, 0, len(row_junk), distances[i], indices[i])
