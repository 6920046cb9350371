"""Neighbor feature centralization: add its mutual neighbors to each embedding."""

import numpy as np
import torch
from torch import Tensor

from reidlit.metrics._ranking.types import Integers
from reidlit.metrics.inputs import as_pair, check_integer
from reidlit.metrics.nearest import nearest_others
from reidlit.metrics.rerank.expansion import weighted_sum


class NeighbourCentralisation:
    """Neighbor feature centralization over queries and gallery together.

    Computes `x_i' = x_i + sum_j x_j` over the mutual neighbors j of sample i: those of its k1 nearest neighbors that
    have i among their own k2 nearest neighbors, by Euclidean distance. The sums are not rescaled, and embeddings with
    mutual neighbors become longer. Rank the result by cosine distance or normalize it.

    Source: Yuan et al., "From Poses to Identity: Training-Free Person Re-Identification via Feature Centralization",
    CVPR 2025.

    Args:
        k1: Number of nearest neighbors of a sample that may be added to it.
        k2: Number of nearest neighbors of such a neighbor that must include the sample.

    Raises:
        ValueError: If k1 or k2 is not an integer of at least 1.

    Example:
        >>> import torch
        >>> from reidlit.metrics import NeighbourCentralisation
        >>> step = NeighbourCentralisation(k1=1, k2=1)
        >>> query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.5], [0.0, 1.0], [0.0, 3.0]])
        >>> query, gallery = step(query, gallery)
        >>> query
        tensor([[2.0000, 0.5000]])
    """

    def __init__(self, k1: int = 2, k2: int = 2) -> None:
        check_integer("k1", k1, 1)
        check_integer("k2", k2, 1)
        self.k1 = k1
        self.k2 = k2

    def __call__(self, query: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
        """Centralize both sets.

        Args:
            query: (Q, D) query embeddings.
            gallery: (G, D) gallery embeddings.

        Returns:
            New query (Q, D) and gallery (G, D) embeddings, float32 on the device of the gallery.

        Raises:
            ValueError: If the embeddings are not finite, empty or differ in D.
        """
        query, gallery = as_pair(query, gallery)
        samples = torch.cat([query, gallery])
        _, index = nearest_others(samples, max(self.k1, self.k2), "euclidean")
        weight = _is_mutual(index, self.k1, self.k2).astype(np.float32)
        centralised = weighted_sum(samples, index[:, : self.k1], weight).add_(samples)
        return centralised[: len(query)], centralised[len(query) :]


def _is_mutual(index: Integers, k1: int, k2: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Return True where one of the first k1 neighbors (N, K) of a sample has the sample among its own first k2."""
    # Pairs (i, j) are encoded as single numbers, so that np.isin replaces a comparison of shape (N, k1, k2).
    size = len(index)
    sample = np.arange(size)[:, None]
    return np.isin(sample * size + index[:, :k1], index[:, :k2] * size + sample)
