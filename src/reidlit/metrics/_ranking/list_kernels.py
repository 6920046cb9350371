"""Numba kernels that list the nearest entries, of whole rows or of half a symmetric matrix."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.metrics._ranking.numba_cache import jit
from reidlit.metrics._ranking.row_kernels import PIECE, STRIDE, least_of_four, num_pieces, take_row
from reidlit.metrics._ranking.types import Integers

# Entries of a column of which only the number that are near enough is looked at while a list of nearest entries is full.
GLANCE = 64


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
