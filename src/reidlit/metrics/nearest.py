"""The nearest entries of a gallery, exact and without a matrix of all distances."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reidlit.metrics._ranking import list_kernels
from reidlit.metrics._ranking.threads import share
from reidlit.metrics._ranking.tiles import HostTile, RankedTile
from reidlit.metrics._ranking.types import Integers
from reidlit.metrics.distance import EmbeddingDistances, iter_tiles
from reidlit.metrics.inputs import as_pair, check_integer


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
        k: Length of the lists; at most G entries are returned.
        metric: "euclidean" or "cosine", as in `pairwise_distance`.

    Returns:
        Distances (Q, k) float32, as of `pairwise_distance`, and gallery indices (Q, k) int64.

    Raises:
        ValueError: If k is not an integer of at least 1, the metric is unknown, or the embeddings are not two sets (N, D)
            of finite numbers with the same D.
    """
    check_integer("k", k, 1)
    query, gallery = as_pair(query, gallery)
    k = min(k, len(gallery))
    distances = EmbeddingDistances(query, gallery, metric)
    lists = [tile.nearest(k) for _, _, tile in iter_tiles(distances, what="neighbours")]
    return Nearest(np.concatenate([distance for distance, _ in lists]), np.concatenate([index for _, index in lists]))


def nearest_others(embedding: Tensor, k: int, metric: str = "euclidean") -> Nearest:
    """`nearest` within one set (N, D), where no embedding is its own neighbour; min(k, N - 1) of each."""
    check_integer("k", k, 1)
    distance, indices = nearest(embedding, embedding, k + 1, metric)
    # An embedding need not come first in its own list, nor be in it at all where k + 1 others are equal to it.
    itself = indices == np.arange(len(indices))[:, None]
    others = itself.argsort(axis=1, kind="stable")[:, :-1]
    return Nearest(np.take_along_axis(distance, others, 1), np.take_along_axis(indices, others, 1))


def nearest_of_all(embedding: Tensor, k: int) -> tuple[Integers, NDArray[np.float32]]:
    """Find the k nearest of each sample in its own set, itself included, and its largest distance.

    On a CPU this takes half the time of `nearest`, since each distance is used both ways.

    Args:
        embedding: (N, D).
        k: Length of the lists; at most N.

    Returns:
        Indices (N, k), nearest first and ties by index, and squared Euclidean distances (N,).
    """
    count = len(embedding)
    k = min(k, count)
    distances = EmbeddingDistances(embedding, embedding)
    if distances.device != "cpu":  # a product is cheap there, and lists are made from whole rows
        results = [(tile.nearest(k)[1], tile.largest()) for _, _, tile in iter_tiles(distances, what="neighbours")]
        return np.concatenate([indices for indices, _ in results]), np.concatenate([most for _, most in results])
    distance = np.full((count, k), np.inf, np.float32)
    indices = np.full((count, k), -1, np.int64)
    largest = np.full(count, -np.inf, np.float32)
    for start, stop, tile in iter_tiles(_UpperTriangle(distances), what="neighbours"):
        values = tile.finished()
        to_later = values[:, stop - start :]

        def list_rows(own: slice, values: NDArray[np.float32] = values, start: int = start) -> None:
            lists = slice(start + own.start, start + own.stop)
            list_kernels.nearest_to_rest(values[own], start, distance[lists], indices[lists], largest[lists])

        def list_columns(
            own: slice, to_later: NDArray[np.float32] = to_later, start: int = start, stop: int = stop
        ) -> None:
            lists = slice(stop + own.start, stop + own.stop)
            list_kernels.nearest_to_block(to_later[:, own], start, distance[lists], indices[lists], largest[lists])

        share(stop - start, list_rows)
        share(count - stop, list_columns, least=list_kernels.GLANCE)
    return indices, largest


class _UpperTriangle:
    """Distances of each sample to the samples of its own block and after it, as `Distances`."""

    def __init__(self, distances: EmbeddingDistances) -> None:
        """Take the distances of a set to itself."""
        self.distances = distances
        self.shape = distances.shape
        self.device = distances.device

    def block(self, start: int, stop: int) -> HostTile:
        """As in `Distances`, (stop - start, N - start)."""
        tile = self.distances.block(start, stop, first=start)
        if not isinstance(tile, HostTile):
            raise TypeError("half of the distances are computed on the CPU only")
        return tile


class NearestLists:
    """Collects `Nearest` from tiles, without the junk."""

    def __init__(self, num_queries: int, num_gallery: int, k: int) -> None:
        """Start with the size of both sets and the length of a list, which the gallery bounds."""
        self.k = k = min(k, num_gallery)
        self.lists = Nearest(np.full((num_queries, k), np.inf, np.float32), np.full((num_queries, k), -1, np.int64))

    def add(self, ranked: RankedTile) -> None:
        """Add a tile whose `k` nearest entries were listed."""
        self.lists.distance[ranked.rows], self.lists.indices[ranked.rows] = ranked.ranking.nearest

    def result(self) -> Nearest:
        """Return the lists of all queries."""
        return self.lists
