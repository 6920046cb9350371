"""Evaluation protocols: matches and junk, single-shot galleries, and averaged embeddings."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reidlit.metrics._ranking.relevance import Relevance
from reidlit.metrics._ranking.tiles import RankedTile
from reidlit.metrics._ranking.types import Integers

PROTOCOLS = ("market1501", "cuhk03", "multi_query", "centroid")


class CrossCamera:
    """Cross-camera matching: a match has the pid of the query and another camera; from the same camera it is junk.

    Source: Liang Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.

    Args:
        g_pids: (G,) gallery identities.
        g_camids: (G,) gallery cameras, or None if no camera is known; then nothing is junk.
    """

    def __init__(self, g_pids: Integers, g_camids: Integers | None) -> None:
        self.order = np.argsort(g_pids, kind="stable")
        self.sorted_pids = g_pids[self.order]
        self.g_camids = g_camids

    def __call__(self, q_pids: Integers, q_camids: Integers | None) -> Relevance:
        """Return the matches and the junk of queries with these identities and cameras, (B,) each."""
        starts = np.searchsorted(self.sorted_pids, q_pids, side="left")
        counts = np.searchsorted(self.sorted_pids, q_pids, side="right") - starts
        offsets = np.concatenate([[0], np.cumsum(counts)])
        # Entry m of query i is m - offsets[i] positions after the start of the query's group.
        entries = self.order[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)]
        if q_camids is None or self.g_camids is None:
            is_match = np.ones(len(entries), np.bool_)
        else:
            is_match = self.g_camids[entries] != np.repeat(q_camids, counts)
        match_offsets = np.concatenate([[0], np.cumsum(is_match)])[offsets]
        return Relevance(entries[is_match], match_offsets, entries[~is_match], offsets - match_offsets)


class SingleShotRanks:
    """Collector of the rank of each query's match in random galleries with one image per identity.

    Each repeat shuffles the gallery and keeps the first image of each identity. For the identity of the query, it keeps
    the first image that is not junk. The galleries do not depend on the other queries or on NumPy's global generator.

    Source: Wei Li et al., "DeepReID: Deep Filter Pairing Neural Network for Person Re-Identification", CVPR 2014.

    Args:
        num_queries: Number of queries, Q.
        g_pids: (G,) gallery identities, including those of distractors.
        repeats: Number of random galleries.
        seed: Random seed.
    """

    def __init__(self, num_queries: int, g_pids: Integers, repeats: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        orders = [generator.permutation(len(g_pids)) for _ in range(repeats)]
        self.g_pids = g_pids
        self.positions = [np.argsort(order) for order in orders]  # position of each gallery entry
        self.kept = [order[np.unique(g_pids[order], return_index=True)[1]] for order in orders]
        self.ranks = np.zeros((num_queries, repeats), np.int64)

    def add(self, ranked: RankedTile) -> None:
        """Add a tile."""
        rows, tile, relevance, _ = ranked
        valid = np.flatnonzero(np.diff(relevance.match_offsets))
        for repeat, (position, kept) in enumerate(zip(self.positions, self.kept, strict=True)):
            # Sort matches by query, then by position. The first match of each query is kept.
            order = np.lexsort([position[relevance.matches], relevance.match_rows])
            match = relevance.matches[order[relevance.match_offsets[valid]]]
            distance = tile.at(valid, match)[:, None]
            kept_distance = tile.columns(kept)[valid]
            closer = (kept_distance < distance) | ((kept_distance == distance) & (kept < match[:, None]))
            closer &= self.g_pids[kept] != self.g_pids[match][:, None]
            self.ranks[rows[valid], repeat] = 1 + closer.sum(axis=1)

    def result(self) -> Integers:
        """Return the 1-based rank (Q, repeats) of each query's match; 0 without a match."""
        return self.ranks


class MeanEmbeddings(NamedTuple):
    """Averaged embeddings (P, D) with their identities (P,) and cameras (P,)."""

    embedding: Tensor
    pids: Integers
    camids: Integers | None


def pool_identities(embedding: Tensor, pids: Integers, camids: Integers | None) -> MeanEmbeddings:
    """Average the embeddings of each identity, or of each pair of identity and camera.

    Args:
        embedding: (N, D) float32 embeddings.
        pids: (N,) identities.
        camids: (N,) cameras, or None to average over all cameras.

    Returns:
        The averages in ascending order of their labels.
    """
    labels = pids[:, None] if camids is None else np.stack([pids, camids], axis=1)
    labels, group = np.unique(labels, axis=0, return_inverse=True)
    index = torch.from_numpy(group.reshape(-1)).to(embedding.device)
    total = torch.zeros(len(labels), embedding.shape[1], dtype=torch.float64, device=embedding.device)
    # Convert in chunks, because double precision needs twice the memory.
    for chunk, chunk_index in zip(torch.split(embedding, 2**14), torch.split(index, 2**14), strict=True):
        total.index_add_(0, chunk_index, chunk.double())
    mean = (total / index.bincount(minlength=len(labels))[:, None]).float()
    return MeanEmbeddings(mean, labels[:, 0], None if camids is None else labels[:, 1])


def centroid_galleries(
    gallery: Tensor, g_pids: Integers, q_camids: Integers | None, g_camids: Integers | None, num_queries: int
) -> Iterator[tuple[Integers, MeanEmbeddings]]:
    """Replace the gallery by one centroid per identity, without the images from the query's camera.

    Source: Mikolaj Wieczorek, Barbara Rychalska, Jacek Dabrowski, "On the Unreasonable Effectiveness of Centroids in
    Image Retrieval", ICONIP 2021.

    Args:
        gallery: (G, D) float32 embeddings.
        g_pids: (G,) gallery identities.
        q_camids: (Q,) query cameras, or None if no camera is known; then the centroids include every image.
        g_camids: (G,) gallery cameras, or None like `q_camids`.
        num_queries: Number of queries, Q.

    Yields:
        For each camera of a query, the row indices (B,) of its queries and their gallery of centroids. A camera that
        took all gallery images is skipped.
    """
    if q_camids is None or g_camids is None:
        yield np.arange(num_queries), pool_identities(gallery, g_pids, None)
        return
    for camera in np.unique(q_camids):
        cross_camera = np.flatnonzero(g_camids != camera)
        if len(cross_camera):
            embedding = gallery[torch.from_numpy(cross_camera).to(gallery.device)]
            yield np.flatnonzero(q_camids == camera), pool_identities(embedding, g_pids[cross_camera], None)
