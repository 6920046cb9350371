"""Numba kernels over one row of distances, which is read once for the minima of small sets of its entries.

Whatever looks for near entries passes over the sets that hold none.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.metrics._ranking.numba_cache import jit

# The sets of a row: in each piece, entries that stand STRIDE apart, so that one instruction compares 16 sets.
PIECE = 1024
STRIDE = 64


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
