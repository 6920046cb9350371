"""Queries and galleries in which the embeddings of one person are averaged."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reidlit.metrics._ranking.types import Integers


class Pooled(NamedTuple):
    """Averaged embeddings (P, D), and the identity and camera of each, (P,)."""

    embedding: Tensor
    pids: Integers
    camids: Integers | None


def pool(embedding: Tensor, pids: Integers, camids: Integers | None) -> Pooled:
    """Average the embeddings of each identity, or of each identity and camera where cameras are given.

    Args:
        embedding: (N, D) float32.
        pids: (N,).
        camids: (N,), or None.

    Returns:
        The averages, ascending by label.
    """
    labels = pids[:, None] if camids is None else np.stack([pids, camids], axis=1)
    found, group = np.unique(labels, axis=0, return_inverse=True)
    index = torch.from_numpy(group.reshape(-1)).to(embedding.device)
    total = torch.zeros(len(found), embedding.shape[1], dtype=torch.float64, device=embedding.device)
    # A part at a time, as double precision takes twice the memory.
    for part, into in zip(torch.split(embedding, 2**14), torch.split(index, 2**14), strict=True):
        total.index_add_(0, into, part.double())
    mean = (total / index.bincount(minlength=len(found))[:, None]).float()
    return Pooled(mean, found[:, 0], None if camids is None else found[:, 1])


class CentroidGallery(NamedTuple):
    """The queries of one camera (B,), as rows of the query set, and the gallery that they are ranked against."""

    rows: Integers
    gallery: Pooled


def centroid_galleries(
    gallery: Tensor, g_pids: Integers, q_camids: Integers | None, g_camids: Integers | None, num_queries: int
) -> Iterator[CentroidGallery]:
    """Replace the gallery by one centroid an identity, without the images that the query's own camera took.

    Source: Mikolaj Wieczorek, Barbara Rychalska, Jacek Dabrowski, "On the Unreasonable Effectiveness of Centroids in
    Image Retrieval", ICONIP 2021.

    Args:
        gallery: (G, D) float32.
        g_pids: (G,).
        q_camids: (Q,), or None where no cameras are known: then every image counts.
        g_camids: (G,) likewise.
        num_queries: Q.

    Yields:
        One gallery for each camera that has queries. A camera that took all of the gallery is left out.
    """
    if q_camids is None or g_camids is None:
        yield CentroidGallery(np.arange(num_queries), pool(gallery, g_pids, None))
        return
    for camera in np.unique(q_camids):
        others = np.flatnonzero(g_camids != camera)
        if len(others):
            chosen = gallery[torch.from_numpy(others).to(gallery.device)]
            yield CentroidGallery(np.flatnonzero(q_camids == camera), pool(chosen, g_pids[others], None))
