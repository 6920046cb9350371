"""The nearest of each sample among all samples, at half the price: a distance is the same both ways."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reidlit.metrics._ranking import list_kernels
from reidlit.metrics._ranking.threads import share
from reidlit.metrics._ranking.tiles import HostBlock
from reidlit.metrics._ranking.types import Integers
from reidlit.metrics.distance import EmbeddingDistances, parts


def nearest_of_all(embedding: Tensor, k: int) -> tuple[Integers, NDArray[np.float32]]:
    """The k nearest of each sample among all, itself included, and the largest distance of each.

    Args:
        embedding: (N, D).
        k: How many; no more than N.

    Returns:
        Indices (N, k), nearest first and ties by index, and squared Euclidean distances (N,).
    """
    count = len(embedding)
    k = min(k, count)
    distances = EmbeddingDistances(embedding, embedding)
    if distances.device != "cpu":  # a product is cheap there, and lists are made from whole rows
        found = [(block.nearest(k)[1], block.largest()) for _, _, block in parts(distances, what="neighbours")]
        return np.concatenate([indices for indices, _ in found]), np.concatenate([most for _, most in found])
    nearest = np.full((count, k), np.inf, np.float32)
    indices = np.full((count, k), -1, np.int64)
    largest = np.full(count, -np.inf, np.float32)
    for start, stop, block in parts(HalfDistances(distances), what="neighbours"):
        values = block.finished()
        across = values[:, stop - start :]

        def rows(own: slice, values: NDArray[np.float32] = values, start: int = start) -> None:
            lists = slice(start + own.start, start + own.stop)
            list_kernels.nearest_to_rest(values[own], start, nearest[lists], indices[lists], largest[lists])

        def columns(own: slice, across: NDArray[np.float32] = across, start: int = start, stop: int = stop) -> None:
            lists = slice(stop + own.start, stop + own.stop)
            list_kernels.nearest_to_block(across[:, own], start, nearest[lists], indices[lists], largest[lists])

        share(stop - start, rows)
        share(count - stop, columns, least=list_kernels.GLANCE)
    return indices, largest


class HalfDistances:
    """Distances of each sample to those of its own block and after it, as `Distances`."""

    def __init__(self, distances: EmbeddingDistances) -> None:
        """Take the distances of a set to itself."""
        self.distances = distances
        self.shape = distances.shape
        self.device = distances.device

    def block(self, start: int, stop: int) -> HostBlock:
        """As in `Distances`, (stop - start, N - start)."""
        block = self.distances.block(start, stop, first=start)
        if not isinstance(block, HostBlock):
            raise TypeError("half of the distances are made on the CPU only")
        return block
