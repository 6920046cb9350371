"""Numba kernels for one row of distances.

A row is read once to compute the minima of small sets of its entries. Searches for near entries then skip all sets with
a larger minimum.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.metrics._ranking.numba_cache import jit

# A row consists of pieces of PIECE entries. A set contains the entries of a piece at a distance of STRIDE, so that one
# vector instruction compares 16 sets.
PIECE = 1024
STRIDE = 64


@jit()
def finish_row(row: NDArray[Any], base: float, offset: NDArray[Any], factor: float) -> None:
    """Turn inner products into distances, in place: `(base + offset) + factor * product`."""
    factor = row.dtype.type(factor)  # float64 would halve the speed
    for j in range(len(row)):
        row[j] = (base + offset[j]) + factor * row[j]


@jit()
def finish_rows(values: NDArray[Any], base: NDArray[Any], offset: NDArray[Any], factor: float) -> None:
    """Apply `finish_row` to each row of (B, G) with its base (B,)."""
    for i in range(len(values)):
        finish_row(values[i], base[i], offset, factor)


@jit()
def count_within(values: NDArray[Any], distance: float) -> np.int32:
    """Count the entries that are at most `distance`."""
    count = np.int32(0)  # as wide as float32, so that the loop vectorizes fully
    for j in range(len(values)):
        count = np.int32(count + np.int32(values[j] <= distance))
    return count


@jit()
def count_below(values: NDArray[Any], distance: float) -> np.int32:
    """Count the entries that are less than `distance`."""
    count = np.int32(0)
    for j in range(len(values)):
        count = np.int32(count + np.int32(values[j] < distance))
    return count


@jit()
def rank_in_row(row: NDArray[Any], index: int) -> int:
    """Return the 1-based rank of an entry in a stable sort of the row."""
    distance = row[index]
    return int(count_within(row[: index + 1], distance) + count_below(row[index + 1 :], distance))


@jit()
def num_pieces(size: int) -> int:
    """Return the number of pieces in a row of `size` entries."""
    return (size + PIECE - 1) // PIECE


@jit()
def least_of_four(values: NDArray[Any], least: NDArray[Any]) -> None:
    """Compute the minimum of each four entries at a distance of N.

    Args:
        values: (4 N,) entries.
        least: (N,) output array for the minima. A separate array avoids masked stores, which are slow on some
            processors.
    """
    size = len(least)
    first, second, third, fourth = (
        values[:size],
        values[size : 2 * size],
        values[2 * size : 3 * size],
        values[3 * size : 4 * size],
    )
    for s in range(size):
        least[s] = min(min(first[s], second[s]), min(third[s], fourth[s]))


@jit()
def copy_row(
    values: NDArray[Any], base: float, offset: NDArray[Any], factor: float, row: NDArray[Any], least: NDArray[Any]
) -> None:
    """Copy a row and compute the minimum of each set, piece by piece, while the piece is in the cache.

    Args:
        values: (G,) distances without NaN, or inner products.
        base: Argument of `finish_row`.
        offset: (G,) argument of `finish_row`; empty if `values` are distances.
        factor: Argument of `finish_row`.
        row: (pieces * PIECE,) output array for the distances, padded with infinity.
        least: (pieces * STRIDE,) output array for the minima.
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
    row: NDArray[Any], least: NDArray[Any], distance: Any, positions: NDArray[np.int32], distances: NDArray[Any]
) -> int:
    """Find the entries that are at most `distance`.

    Args:
        row: (pieces * PIECE,) distances from `copy_row`.
        least: (pieces * STRIDE,) minima of the sets of the row.
        distance: Largest distance to find, less than infinity.
        positions: Output array for the positions of the N entries, in no particular order.
        distances: Output array for the distances of the N entries.

    Returns:
        Number of entries, N.
    """
    count = 0
    for n in range(len(least) // STRIDE):
        minima, piece = least[n * STRIDE : (n + 1) * STRIDE], row[n * PIECE : (n + 1) * PIECE]
        for s in range(STRIDE):
            if minima[s] <= distance:
                for line in range(PIECE // STRIDE):
                    if piece[line * STRIDE + s] <= distance:
                        positions[count] = n * PIECE + line * STRIDE + s
                        distances[count] = piece[line * STRIDE + s]
                        count += 1
    return count
