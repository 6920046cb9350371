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

    On embeddings of unit length: `q' = normalize(q + sum_j max(cos(q, g_j), 0)^alpha g_j)` over the k nearest gallery
    embeddings of q. Labels play no part, so the neighbours may be images from the query's own camera, which the
    evaluation then leaves out as junk; where such images are many, they pull the query towards its own camera.

    Sources: Ondrej Chum et al., "Total Recall: Automatic Query Expansion with a Generative Feature Model for Object
    Retrieval", ICCV 2007 (alpha 0); Filip Radenovic, Giorgos Tolias and Ondrej Chum, "Fine-tuning CNN Image Retrieval
    with No Human Annotation", TPAMI 2019 (alpha above 0); Relja Arandjelovic and Andrew Zisserman, "Three Things Everyone
    Should Know to Improve Object Retrieval", CVPR 2012 (the gallery).
    """

    def __init__(self, k: int = 5, alpha: float = 0.0, expand_gallery: bool = False) -> None:
        """Check the options.

        Args:
            k: Neighbours of each embedding, itself not counted; all there are where the gallery is smaller.
            alpha: Exponent of a neighbour's similarity in its weight; 0 weighs all alike, the embedding itself has 1.
            expand_gallery: Expand the gallery embeddings too, each by its k nearest others in the gallery. The queries
                are expanded by the gallery as it was before.

        Raises:
            ValueError: If k is not an integer of at least 1, or alpha is negative or not finite.
        """
        check_integer("k", k, 1)
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha={alpha} must be finite and at least 0")
        self.k = k
        self.alpha = alpha
        self.expand_gallery = expand_gallery

    def __call__(self, query: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
        """Expand both sets, or the queries only.

        Args:
            query: (Q, D).
            gallery: (G, D).

        Returns:
            New query (Q, D) and gallery (G, D), float32, on the gallery's device, every embedding of unit length.

        Raises:
            ValueError: The embeddings are not two sets (N, D) of finite numbers with the same D.
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
    """Sums `sum_k weight[i, k] * embedding[index[i, k]]` (M, D) of an embedding (N, D), index and weight (M, K).

    The chosen embeddings are never copied out as (M, K, D), which can be a hundred times the embeddings.
    """
    device = embedding.device
    rows, weights = torch.from_numpy(index).to(device), torch.from_numpy(weight).to(embedding)
    starts = torch.arange(len(rows), device=device) * rows.shape[1]
    return embedding_bag(rows.flatten(), embedding, starts, mode="sum", per_sample_weights=weights.flatten())
