"""Query expansion: an embedding becomes the average of itself and its nearest gallery embeddings."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from reidlit.metrics._ranking.types import Integers
from reidlit.metrics.inputs import as_pair, check_integer
from reidlit.metrics.nearest import nearest, nearest_others


class QueryExpansion:
    """Average query expansion, alpha query expansion and database-side augmentation, by cosine similarity.

    Computes `q' = normalize(q + sum_j max(cos(q, g_j), 0)^alpha g_j)` over the k nearest gallery embeddings of q, for
    embeddings of unit length. Labels are not used: the neighbors may include images from the query's camera, which are
    junk in the evaluation. If there are many, they pull the query toward its own camera.

    Sources: Ondrej Chum et al., "Total Recall: Automatic Query Expansion with a Generative Feature Model for Object
    Retrieval", ICCV 2007 (alpha 0); Filip Radenovic, Giorgos Tolias and Ondrej Chum, "Fine-tuning CNN Image Retrieval
    with No Human Annotation", TPAMI 2019 (alpha above 0); Relja Arandjelovic and Andrew Zisserman, "Three Things
    Everyone Should Know to Improve Object Retrieval", CVPR 2012 (gallery expansion).

    Args:
        k: Number of neighbors of each embedding, not counting itself; reduced for a smaller gallery.
        alpha: Exponent of the similarity in the weight of a neighbor. With 0, all weights are 1. The weight of the
            embedding itself is always 1.
        expand_gallery: Whether to expand the gallery embeddings as well, each by its k nearest neighbors in the
            gallery. Queries are expanded with the original gallery.

    Raises:
        ValueError: If k is not an integer of at least 1, or alpha is negative or not finite.

    Example:
        >>> import torch
        >>> from reidlit import evaluate
        >>> from reidlit.metrics import QueryExpansion
        >>> query, gallery = torch.eye(2), torch.tensor([[1.0, 0.2], [0.8, 0.6], [0.1, 1.0]])
        >>> scores = evaluate(query, gallery, [0, 1], [0, 0, 1], postprocess=[QueryExpansion(k=2, alpha=3)])
        >>> scores.rank(1)
        1.0
    """

    def __init__(self, k: int = 5, alpha: float = 0.0, expand_gallery: bool = False) -> None:
        check_integer("k", k, 1)
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha={alpha} is invalid: must be finite and at least 0.")
        self.k = k
        self.alpha = alpha
        self.expand_gallery = expand_gallery

    def __call__(self, query: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
        """Expand the queries, and the gallery if `expand_gallery` is True.

        Args:
            query: (Q, D) query embeddings.
            gallery: (G, D) gallery embeddings.

        Returns:
            New query (Q, D) and gallery (G, D) embeddings of unit length, float32 on the device of the gallery.

        Raises:
            ValueError: If the embeddings are not finite, empty or differ in D.
        """
        query, gallery = map(normalize, as_pair(query, gallery))
        expanded = self._expand(query, gallery, *nearest(query, gallery, self.k, "cosine"))
        if self.expand_gallery:
            gallery = self._expand(gallery, gallery, *nearest_others(gallery, self.k, "cosine"))
        return expanded, gallery

    def _expand(self, embedding: Tensor, gallery: Tensor, distance: NDArray[np.float32], index: Integers) -> Tensor:
        weight = (1 - distance).clip(min=0) ** self.alpha
        return normalize(weighted_sum(gallery, index, weight).add_(embedding))


def weighted_sum(embedding: Tensor, index: Integers, weight: NDArray[Any]) -> Tensor:
    """Compute `sum_k weight[i, k] * embedding[index[i, k]]`.

    The selected embeddings are not gathered into an (M, K, D) tensor, which could be a hundred times the input.

    Args:
        embedding: (N, D) embeddings.
        index: (M, K) row indices.
        weight: (M, K) weights.

    Returns:
        (M, D) weighted sums.
    """
    device = embedding.device
    rows, weights = torch.from_numpy(index).to(device), torch.from_numpy(weight).to(embedding)
    starts = torch.arange(len(rows), device=device) * rows.shape[1]
    return embedding_bag(rows.flatten(), embedding, starts, mode="sum", per_sample_weights=weights.flatten())
