"""Neighbour feature centralisation: mutual neighbours are added to an embedding."""

import numpy as np
import torch
from torch import Tensor

from reidlit.metrics._ranking.types import Integers
from reidlit.metrics.inputs import as_pair, check_integer
from reidlit.metrics.nearest import nearest_others
from reidlit.metrics.rerank.expansion import weighted_sum


class NeighbourCentralisation:
    """Neighbour feature centralisation, over all samples of query and gallery together.

    `x_i' = x_i + sum_j x_j` over those of the k1 nearest neighbours j of i that have i among their own k2 nearest, by
    Euclidean distance and without i itself. The sums are not scaled back: an embedding with mutual neighbours gets
    longer, so rank the result by cosine, or normalise it.

    Source: Yuan et al., "From Poses to Identity: Training-Free Person Re-Identification via Feature Centralization",
    CVPR 2025.
    """

    def __init__(self, k1: int = 2, k2: int = 2) -> None:
        """Check the options.

        Args:
            k1: Neighbours of a sample that may be added to it; all others where the samples are fewer.
            k2: Neighbours of such a neighbour that the sample must be among.

        Raises:
            ValueError: If k1 or k2 is not an integer of at least 1.
        """
        check_integer("k1", k1, 1)
        check_integer("k2", k2, 1)
        self.k1 = k1
        self.k2 = k2

    def __call__(self, query: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
        """Centralise both sets.

        Args:
            query: (Q, D).
            gallery: (G, D).

        Returns:
            New query (Q, D) and gallery (G, D), float32, on the gallery's device.

        Raises:
            ValueError: The embeddings are not two sets (N, D) of finite numbers with the same D.
        """
        query, gallery = as_pair(query, gallery)
        samples = torch.cat([query, gallery])
        _, index = nearest_others(samples, max(self.k1, self.k2), "euclidean")
        weight = _is_mutual(index, self.k1, self.k2).astype(np.float32)
        centralised = weighted_sum(samples, index[:, : self.k1], weight).add_(samples)
        return centralised[: len(query)], centralised[len(query) :]


def _is_mutual(index: Integers, k1: int, k2: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Whether each of the first k1 neighbours (N, K) of a sample has it among its own first k2, (N, min(k1, K))."""
    # A pair (i, j) is one number, so that the lookup is a search in a sorted list and not (N, k1, k2).
    size = len(index)
    sample = np.arange(size)[:, None]
    return np.isin(sample * size + index[:, :k1], index[:, :k2] * size + sample)
