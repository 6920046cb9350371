"""Numba kernels of k-reciprocal re-ranking: neighbour lists in, sparse rows out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.metrics._ranking.numba_cache import jit
from reidlit.metrics._ranking.types import Integers

Rows = NDArray[np.float32]
Sparse = tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]], Rows]


@jit()
def holds(part: Integers, value: int) -> bool:
    """Whether an entry is `value`."""
    for j in range(len(part)):  # noqa: SIM110  # any() of a generator is no kernel
        if part[j] == value:
            return True
    return False


@jit()
def reciprocal(neighbours: Integers, i: int, k: int, found: Integers) -> int:
    """Put those of the first k neighbours of i that have i among their own first k into `found`; how many they are."""
    count = 0
    for m in range(k):
        j = neighbours[i, m]
        if holds(neighbours[j, :k], i):
            found[count] = j
            count += 1
    return count


@jit()
def expanded(neighbours: Integers, i: int, half: int) -> Integers:
    """The k-reciprocal neighbours of i, with those sets of theirs that lie in it by more than two thirds."""
    k = neighbours.shape[1]
    found, own = np.empty(k * (half + 1), np.int64), np.empty(half, np.int64)
    core = reciprocal(neighbours, i, k, found)
    count = core
    for m in range(core):
        size = reciprocal(neighbours, found[m], half, own)
        shared = 0
        for n in range(size):
            shared += holds(found[:core], own[n])
        if 3 * shared > 2 * size:
            for n in range(size):
                if not holds(found[:count], own[n]):
                    found[count] = own[n]
                    count += 1
    return found[:count]


@jit()
def set_sizes(neighbours: Integers, half: int, start: int, sizes: Integers) -> None:
    """Sizes (N,) of the sets of `expanded` of the samples from `start` on."""
    for i in range(len(sizes)):
        sizes[i] = len(expanded(neighbours, start + i, half))


@jit()
def squared_distance(a: Rows, b: Rows) -> np.float32:
    """Squared Euclidean distance of two embeddings."""
    total = np.float32(0)
    for d in range(len(a)):
        total += (a[d] - b[d]) * (a[d] - b[d])
    return total


@jit()
def encode(
    embedding: Rows,
    neighbours: Integers,
    half: int,
    largest: Rows,
    power: float,
    offsets: Integers,
    start: int,
    stop: int,
    columns: Integers,
    values: Rows,
) -> None:
    """Each sample as a distribution over its expanded reciprocal neighbours.

    Args:
        embedding: (N, D).
        neighbours: (N, k) nearest samples, itself among them.
        half: How many neighbours a candidate's own set is made of.
        largest: (N,) squared distance, by which a sample's others are divided.
        power: Of the quotient.
        offsets: (N + 1,) running sum of `set_sizes`.
        start: The first sample to encode.
        stop: The sample after the last.
        columns: Is set to the columns of the sparse rows, whose ends are `offsets`.
        values: Is set to their values.
    """
    for i in range(start, stop):
        members = expanded(neighbours, i, half)
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
        values: (B, G) squared Euclidean distances.
        largest: (B,) squared distance, by which a query's others are divided.
        power: Of the quotient.
        lambda_value: Share of the distance.
        query_codes: Offsets (B + 1,), samples and weights: for each query the samples that encode it.
        gallery_codes: Offsets (N + 1,), gallery indices and weights: for each sample the gallery entries that it encodes.
    """
    q_offsets, q_columns, q_values = query_codes
    g_offsets, g_rows, g_values = gallery_codes
    share, rest = values.dtype.type(lambda_value), values.dtype.type(1 - lambda_value)
    for i in range(len(values)):
        row = values[i]
        shared = np.zeros(len(row), np.float32)  # sum over samples of the smaller of the two weights
        for m in range(q_offsets[i], q_offsets[i + 1]):
            sample, weight = q_columns[m], q_values[m]
            for n in range(g_offsets[sample], g_offsets[sample + 1]):
                shared[g_rows[n]] += min(weight, g_values[n])
        for j in range(len(row)):
            distance = max(row[j], np.float32(0)) / largest[i]  # first, as a power of large distances overflows
            if power != 1:
                distance = distance**power
            jaccard = np.float32(1) - shared[j] / (np.float32(2) - shared[j])
            row[j] = share * distance + rest * jaccard
