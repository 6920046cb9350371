"""Numba kernels that list the nearest entries of complete rows or of one half of a symmetric matrix."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.metrics._ranking.numba_cache import jit
from reidlit.metrics._ranking.row_kernels import PIECE, STRIDE, copy_row, least_of_four, num_pieces
from reidlit.metrics._ranking.types import Integers

# Number of adjacent columns whose entries are first counted against their bounds; most are not near enough for a list.
COLUMN_CHUNK = 64


@jit()
def insert(distances: NDArray[Any], indices: Integers, size: int, distance: float, index: int) -> None:
    """Insert into a list of `size` entries, sorted by distance and index; the last entry of a full list is dropped."""
    last = min(size, len(distances) - 1)
    while last > 0 and (
        distances[last - 1] > distance or (distances[last - 1] == distance and indices[last - 1] > index)
    ):
        distances[last], indices[last] = distances[last - 1], indices[last - 1]
        last -= 1
    distances[last], indices[last] = distance, index


@jit()
def list_size(indices: Integers) -> int:
    """Return the number of entries in a list that is padded with -1."""
    size = 0
    while size < len(indices) and indices[size] >= 0:
        size += 1
    return size


@jit()
def nearest_in_row(
    row: NDArray[Any], least: NDArray[Any], first: int, num_loose: int, distances: NDArray[Any], indices: Integers
) -> None:
    """Add a row to a list of the smallest entries, smallest first and ties by position.

    Args:
        row: (pieces * PIECE,) distances from `copy_row`; infinite distances are never listed.
        least: (pieces * STRIDE,) lower bounds of the sets of the row, normally their minima.
        first: Position of the first entry of the row, after all positions in the list.
        num_loose: Maximum number of sets with a bound below their minimum.
        distances: (k,) list of distances, padded with infinity.
        indices: (k,) positions of the listed entries, padded with -1.
    """
    size = list_size(indices)
    bound = distances[-1]
    enough = len(distances) + num_loose
    if size == 0 and len(least) // 4 >= enough:
        # `enough` groups of sets have a lower bound within the new bound, and at least k of them contain such an entry.
        # No entry beyond it can be among the k smallest.
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
                    insert(distances, indices, size, distance, index)
                    size = min(size + 1, len(distances))


@jit()
def nearest_to_rest(
    values: NDArray[Any], first: int, distances: NDArray[Any], indices: Integers, largest: NDArray[Any]
) -> None:
    """Add the rows of a block to the lists of its samples.

    Args:
        values: (B, N - first) distances from the samples of the block to themselves and all later samples.
        first: Sample of the first column; all earlier samples are already in the lists.
        distances: (B, k) lists of distances, as in `nearest_in_row`.
        indices: (B, k) lists of positions, as in `nearest_in_row`.
        largest: (B,) largest distance of each row so far.
    """
    pieces = num_pieces(values.shape[1])
    row, least = np.empty(pieces * PIECE, values.dtype), np.empty(pieces * STRIDE, values.dtype)
    finished = np.empty(0, values.dtype)
    for i in range(len(values)):
        copy_row(values[i], values.dtype.type(0), finished, 1.0, row, least)
        nearest_in_row(row, least, first, 0, distances[i], indices[i])
        row_largest = largest[i]
        for j in range(len(values[i])):
            row_largest = max(row_largest, values[i, j])
        largest[i] = row_largest


@jit()
def nearest_to_block(
    values: NDArray[Any], first: int, distances: NDArray[Any], indices: Integers, largest: Any
) -> None:
    """Add the columns of a block to the lists of the samples after it, which reuses its distances.

    Args:
        values: (B, M) distances from the samples of the block to M later samples.
        first: Sample of the first row; all earlier samples are already in the lists.
        distances: (M, k) lists of distances, as in `nearest_in_row`.
        indices: (M, k) lists of positions, as in `nearest_in_row`.
        largest: (M,) largest distance of each column so far.
    """
    bound = np.empty(COLUMN_CHUNK, values.dtype)
    column_largest = np.empty(COLUMN_CHUNK, values.dtype)
    for start in range(0, values.shape[1], COLUMN_CHUNK):
        width = min(COLUMN_CHUNK, values.shape[1] - start)
        for j in range(width):
            bound[j], column_largest[j] = distances[start + j, -1], largest[start + j]
        for i in range(len(values)):
            entries = values[i, start : start + width]
            num_nearer = np.int32(0)
            for j in range(len(entries)):
                num_nearer = np.int32(num_nearer + np.int32(entries[j] < bound[j]))
                column_largest[j] = max(column_largest[j], entries[j])
            if num_nearer == 0:
                continue
            for j in range(len(entries)):
                if entries[j] < bound[j]:
                    size = list_size(indices[start + j])
                    insert(distances[start + j], indices[start + j], size, entries[j], first + i)
                    bound[j] = distances[start + j, -1]
        for j in range(width):
            largest[start + j] = column_largest[j]
