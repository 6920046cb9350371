"""The first entries of a ranking, for pictures and searches."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reidlit.metrics.distance import pairwise_distance


def top_k(
    query: Tensor,
    gallery: Tensor,
    k: int,
    junk: Tensor | None = None,
    metric: str = "euclidean",
    normalize: bool = False,
) -> tuple[Tensor, Tensor]:
    """The nearest gallery entries of each query, nearest first.

    Args:
        query: (Q, D) embeddings.
        gallery: (G, D) embeddings.
        k: how many; no more than G are given.
        junk: (Q, G) bool, entries to leave out.
        metric: "euclidean" or "cosine".
        normalize: scale the embeddings to unit length first.

    Returns:
        Distances (Q, k), Euclidean or cosine, and gallery indices (Q, k). Where a query has fewer than k entries that are
        not junk, the rest is junk at an infinite distance.
    """
    if normalize:
        query, gallery = functional.normalize(query.float()), functional.normalize(gallery.float())
    distance = pairwise_distance(query, gallery, metric)
    if metric == "euclidean":
        distance = distance.clamp(min=0).sqrt()  # the square is enough for a ranking, but not for a reader
    if junk is not None:
        distance = distance.masked_fill(junk.to(distance.device), torch.inf)
    order = np.argsort(distance.cpu().numpy(), axis=1, kind="stable")[:, :k]  # few queries: a full sort is affordable
    index = torch.from_numpy(order.copy())
    return distance.cpu().gather(1, index), index
