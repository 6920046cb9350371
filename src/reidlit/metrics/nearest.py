"""The nearest entries of a gallery, exact and without a matrix of all distances."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reidlit.metrics._ranking.tiles import Answered
from reidlit.metrics._ranking.types import Integers
from reidlit.metrics.distance import EmbeddingDistances, parts
from reidlit.metrics.inputs import as_pair


class Nearest(NamedTuple):
    """The nearest gallery entries of each query, nearest first, ties by gallery index.

    `distance` and `indices` are (Q, k). Where a query has fewer than k, the distance is infinite and the index is -1.
    """

    distance: NDArray[Any]
    indices: Integers


def nearest(query: Tensor, gallery: Tensor, k: int, metric: str = "euclidean") -> Nearest:
    """Find the nearest gallery entries of each query.

    Args:
        query: (Q, D) embeddings.
        gallery: (G, D) embeddings.
        k: How many; no more than G are given.
        metric: "euclidean" or "cosine", as in `pairwise_distance`.

    Returns:
        Distances (Q, k) float32, as of `pairwise_distance`, and gallery indices (Q, k) int64.

    Raises:
        ValueError: k is no integer from 1, the metric is unknown, or the embeddings are not two sets (N, D) of finite
            numbers with the same D.
    """
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"k={k} must be an integer from 1")
    query, gallery = as_pair(query, gallery)
    k = min(k, len(gallery))
    found = [block.nearest(k) for _, _, block in parts(EmbeddingDistances(query, gallery, metric), what="neighbours")]
    return Nearest(np.concatenate([distance for distance, _ in found]), np.concatenate([index for _, index in found]))


def nearest_others(embedding: Tensor, k: int, metric: str = "euclidean") -> Nearest:
    """`nearest` within one set (N, D), where no embedding is its own neighbour; min(k, N - 1) of each."""
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"k={k} must be an integer from 1")
    distance, indices = nearest(embedding, embedding, k + 1, metric)
    # An embedding need not come first in its own list, nor be in it at all where k + 1 others are equal to it.
    itself = indices == np.arange(len(indices))[:, None]
    others = itself.argsort(axis=1, kind="stable")[:, :-1]
    return Nearest(np.take_along_axis(distance, others, 1), np.take_along_axis(indices, others, 1))


class NearestLists:
    """Collects `Nearest` from blocks, without the junk."""

    def __init__(self, num_queries: int, num_gallery: int, k: int) -> None:
        """Start with the size of both sets and the length of a list, which the gallery bounds."""
        self.k = k = min(k, num_gallery)
        self.found = Nearest(np.full((num_queries, k), np.inf, np.float32), np.full((num_queries, k), -1, np.int64))

    def add(self, part: Answered) -> None:
        """Add a block that listed `k` entries."""
        self.found.distance[part.rows], self.found.indices[part.rows] = part.answers.nearest

    def result(self) -> Nearest:
        """The lists of all blocks."""
        return self.found
