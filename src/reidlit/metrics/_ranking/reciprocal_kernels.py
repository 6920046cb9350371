"""Numba kernels of k-reciprocal re-ranking, which turn neighbor lists into sparse encodings."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.metrics._ranking.numba_cache import jit
from reidlit.metrics._ranking.types import Integers

Rows = NDArray[np.float32]
Sparse = tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]], Rows]


@jit()
def contains(entries: Integers, value: int) -> bool:
    """Return True if one of the entries is `value`."""
    for j in range(len(entries)):  # noqa: SIM110  # Numba does not support any() of a generator
        if entries[j] == value:
            return True
    return False


@jit()
def reciprocal(neighbors: Integers, i: int, k: int, out: Integers) -> int:
    """Write the k-reciprocal neighbors of sample i to `out` and return their number."""
    count = 0
    for m in range(k):
        j = neighbors[i, m]
        if contains(neighbors[j, :k], i):
            out[count] = j
            count += 1
    return count


@jit()
def expanded(neighbors: Integers, i: int, half: int) -> Integers:
    """Return the k-reciprocal neighbors of sample i, expanded by their own reciprocal sets of `half` neighbors.

    A set is added if more than two thirds of it are k-reciprocal neighbors of i.
    """
    k = neighbors.shape[1]
    members, candidates = np.empty(k * (half + 1), np.int64), np.empty(half, np.int64)
    core = reciprocal(neighbors, i, k, members)
    count = core
    for m in range(core):
        size = reciprocal(neighbors, members[m], half, candidates)
        shared = 0
        for n in range(size):
            shared += contains(members[:core], candidates[n])
        if 3 * shared > 2 * size:
            for n in range(size):
                if not contains(members[:count], candidates[n]):
                    members[count] = candidates[n]
                    count += 1
    return members[:count]


@jit()
def set_sizes(neighbors: Integers, half: int, start: int, sizes: Integers) -> None:
    """Compute the size (N,) of the `expanded` set of each sample from `start` on."""
    for i in range(len(sizes)):
        sizes[i] = len(expanded(neighbors, start + i, half))


@jit()
def squared_distance(a: Rows, b: Rows) -> np.float32:
    """Compute the squared Euclidean distance between two embeddings."""
    total = np.float32(0)
    for d in range(len(a)):
        total += (a[d] - b[d]) * (a[d] - b[d])
    return total


@jit()
def encode(
    embedding: Rows,
    neighbors: Integers,
    half: int,
    largest: Rows,
    power: float,
    offsets: Integers,
    start: int,
    stop: int,
    columns: Integers,
    values: Rows,
) -> None:
    """Encode each sample as a distribution over its expanded k-reciprocal neighbors.

    Args:
        embedding: (N, D) embeddings.
        neighbors: (N, k) nearest samples, including the sample itself.
        half: Number of neighbors in the sets that expand the k-reciprocal neighbors.
        largest: (N,) largest squared distance of each sample, which normalizes its distances.
        power: Exponent of the normalized squared distance.
        offsets: (N + 1,) offsets of the sparse rows, the cumulative sum of `set_sizes`.
        start: First sample to encode.
        stop: Sample after the last one.
        columns: Output array for the column indices of the sparse rows.
        values: Output array for the values of the sparse rows.
    """
    for i in range(start, stop):
        members = expanded(neighbors, i, half)
        total = np.float32(0)
        for m in range(len(members)):
            distance = squared_distance(embedding[i], embedding[members[m]]) / largest[i]
            weight = np.float32(np.exp(-(distance**power)))
            columns[offsets[i] + m], values[offsets[i] + m] = members[m], weight
            total += weight
        for m in range(len(members)):
            values[offsets[i] + m] /= total


@jit()
def blend(
    values: NDArray[Any],
    largest: Rows,
    power: float,
    lambda_value: float,
    query_codes: Sparse,
    gallery_codes: Sparse,
) -> None:
    """Turn squared distances into `lambda * distance + (1 - lambda) * Jaccard distance`, in place.

    Args:
        values: (B, G) squared Euclidean distances, modified in place.
        largest: (B,) largest squared distance of each query, which normalizes its distances.
        power: Exponent of the normalized squared distance.
        lambda_value: Weight of the original distance.
        query_codes: Offsets (B + 1,), samples and weights of the encoding of each query (CSR).
        gallery_codes: Offsets (N + 1,), gallery indices and weights of each sample (CSC of the gallery encodings).
    """
    q_offsets, q_columns, q_values = query_codes
    g_offsets, g_rows, g_values = gallery_codes
    distance_weight, jaccard_weight = values.dtype.type(lambda_value), values.dtype.type(1 - lambda_value)
    for i in range(len(values)):
        row = values[i]
        shared = np.zeros(len(row), np.float32)  # sum over samples of the smaller weight
        for m in range(q_offsets[i], q_offsets[i + 1]):
            sample, weight = q_columns[m], q_values[m]
            for n in range(g_offsets[sample], g_offsets[sample + 1]):
                shared[g_rows[n]] += min(weight, g_values[n])
        for j in range(len(row)):
            distance = (
                max(row[j], np.float32(0)) / largest[i]
            )  # divide first, because powers of large distances overflow
            if power != 1:
                distance = distance**power
            jaccard = np.float32(1) - shared[j] / (np.float32(2) - shared[j])
            row[j] = distance_weight * distance + jaccard_weight * jaccard
