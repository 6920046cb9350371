"""Exact nearest-neighbor search without storing the full distance matrix."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reidlit.metrics._ranking import list_kernels
from reidlit.metrics._ranking.threads import parallel_for
from reidlit.metrics._ranking.tiles import HostTile, RankedTile
from reidlit.metrics._ranking.types import Integers
from reidlit.metrics.distance import EmbeddingDistances, iter_tiles
from reidlit.metrics.inputs import as_pair, check_integer


class Nearest(NamedTuple):
    """Nearest gallery entries of each query, nearest first and ties by gallery index.

    Attributes:
        distance: (Q, k) distances; infinity where a query has fewer than k entries.
        indices: (Q, k) gallery indices; -1 where a query has fewer than k entries.
    """

    distance: NDArray[Any]
    indices: Integers


def nearest(query: Tensor, gallery: Tensor, k: int, metric: str = "euclidean") -> Nearest:
    """Find the nearest gallery entries of each query.

    Args:
        query: (Q, D) embeddings.
        gallery: (G, D) embeddings.
        k: Length of the lists; reduced to G for a smaller gallery.
        metric: `"euclidean"` or `"cosine"`, as in `pairwise_distance`.

    Returns:
        Distances (Q, k) float32, as in `pairwise_distance`, and gallery indices (Q, k) int64.

    Raises:
        ValueError: If k is not an integer of at least 1, the metric is unknown, or the embeddings are not finite, empty
            or differ in D.

    Example:
        >>> import torch
        >>> from reidlit.metrics import nearest
        >>> query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 0.5]])
        >>> distance, indices = nearest(query, gallery, k=2)
        >>> indices
        array([[2, 1]])
    """
    check_integer("k", k, 1)
    query, gallery = as_pair(query, gallery)
    k = min(k, len(gallery))
    distances = EmbeddingDistances(query, gallery, metric)
    lists = [tile.nearest(k) for _, _, tile in iter_tiles(distances, what="neighbors")]
    return Nearest(np.concatenate([distance for distance, _ in lists]), np.concatenate([index for _, index in lists]))


def nearest_others(embedding: Tensor, k: int, metric: str = "euclidean") -> Nearest:
    """Find the min(k, N - 1) nearest neighbors of each embedding (N, D) in its own set, itself excluded."""
    check_integer("k", k, 1)
    distance, indices = nearest(embedding, embedding, k + 1, metric)
    # With duplicates, an embedding may not come first in its own list, or may be missing from it.
    itself = indices == np.arange(len(indices))[:, None]
    others = itself.argsort(axis=1, kind="stable")[:, :-1]
    return Nearest(np.take_along_axis(distance, others, 1), np.take_along_axis(indices, others, 1))


def nearest_of_all(embedding: Tensor, k: int) -> tuple[Integers, NDArray[np.float32]]:
    """Find the k nearest neighbors of each sample in its own set, itself included, and its largest distance.

    On a CPU, this takes half the time of `nearest`, because each distance serves both of its samples.

    Args:
        embedding: (N, D) embeddings.
        k: Length of the lists; reduced to N for a smaller set.

    Returns:
        Indices (N, k), nearest first and ties by index, and the largest squared Euclidean distance (N,) of each sample.
    """
    count = len(embedding)
    k = min(k, count)
    distances = EmbeddingDistances(embedding, embedding)
    if distances.device != "cpu":  # on a GPU, products are cheap and complete rows are ranked
        results = [(tile.nearest(k)[1], tile.largest()) for _, _, tile in iter_tiles(distances, what="neighbors")]
        return np.concatenate([rows for rows, _ in results]), np.concatenate([rows for _, rows in results])
    distance = np.full((count, k), np.inf, np.float32)
    indices = np.full((count, k), -1, np.int64)
    largest = np.full(count, -np.inf, np.float32)
    for start, stop, tile in iter_tiles(_UpperTriangle(distances), what="neighbors"):
        values = tile.finished()
        to_later = values[:, stop - start :]

        def list_rows(rows: slice, values: NDArray[np.float32] = values, start: int = start) -> None:
            lists = slice(start + rows.start, start + rows.stop)
            list_kernels.nearest_to_rest(values[rows], start, distance[lists], indices[lists], largest[lists])

        def list_columns(
            columns: slice, to_later: NDArray[np.float32] = to_later, start: int = start, stop: int = stop
        ) -> None:
            lists = slice(stop + columns.start, stop + columns.stop)
            list_kernels.nearest_to_block(to_later[:, columns], start, distance[lists], indices[lists], largest[lists])

        parallel_for(stop - start, list_rows)
        parallel_for(count - stop, list_columns, least=list_kernels.COLUMN_CHUNK)
    return indices, largest


class _UpperTriangle:
    """Distances of each sample to the samples of its block and all later samples of the same set."""

    def __init__(self, distances: EmbeddingDistances) -> None:
        self.distances = distances
        self.shape = distances.shape
        self.device = distances.device

    def block(self, start: int, stop: int) -> HostTile:
        """Return the tile (stop - start, N - start)."""
        tile = self.distances.block(start, stop, first=start)
        if not isinstance(tile, HostTile):
            raise TypeError("_UpperTriangle requires embeddings on the CPU.")
        return tile


class NearestLists:
    """Collector of the k nearest gallery entries of each query, without junk."""

    def __init__(self, num_queries: int, num_gallery: int, k: int) -> None:
        self.k = k = min(k, num_gallery)
        self.lists = Nearest(np.full((num_queries, k), np.inf, np.float32), np.full((num_queries, k), -1, np.int64))

    def add(self, ranked: RankedTile) -> None:
        """Add a tile that was ranked with lists of `k` entries."""
        self.lists.distance[ranked.rows], self.lists.indices[ranked.rows] = ranked.ranking.nearest

    def result(self) -> Nearest:
        """Return the lists of all queries."""
        return self.lists
