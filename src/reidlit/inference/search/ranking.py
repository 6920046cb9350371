"""Who comes nearest to a query among the rows of a gallery: exact, by FAISS, re-ranked, by identities, by cameras."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from reidlit.inference.search.faiss_index import FaissIndex
from reidlit.inference.search.store import GalleryRows, Integers, Piece
from reidlit.metrics.distance import EmbeddingDistances, iter_tiles
from reidlit.metrics.inputs import as_labels
from reidlit.metrics.nearest import Nearest
from reidlit.metrics.rerank.k_reciprocal import KReciprocal

Mask = NDArray[np.bool_]
PROPOSED = 4  # by FAISS, for each that is asked for; the best by their exact distances are taken
AT_ONCE = 2**14  # embeddings that are gathered or taken in double precision


class PieceDistances(EmbeddingDistances):
    """Distances of queries (Q, D) to one piece of a gallery after the other, whose lengths are known beforehand."""

    def __init__(self, query: Tensor, metric: str) -> None:
        super().__init__(query, query[:0], metric)

    def turn_to(self, piece: Piece, allowed: Mask | None) -> None:
        """Go on with a piece; rows that are not allowed (B,) are infinitely far."""
        self.gallery = piece.embedding
        self.offset = torch.zeros_like(piece.norms) if self.cosine else piece.norms
        if allowed is not None:
            left_out = torch.from_numpy(~allowed).to(self.offset.device)
            self.offset = self.offset.masked_fill(left_out, torch.inf)
        self.shape = (len(self.query), len(piece.embedding))


def exact(rows: GalleryRows, query: Tensor, k: int, metric: str, allowed: Mask | None) -> Nearest:
    """The nearest rows of each query; positions and distances (Q, k), padded with -1 and infinity.

    Args:
        rows: the gallery (N, D); of length one for `cosine`.
        query: (Q, D), likewise.
        k: how many.
        metric: `euclidean` or `cosine`.
        allowed: (N,) rows that may be listed, or None for all.
    """
    found = _nothing(len(query), k)
    distances = PieceDistances(query, metric)
    for piece in rows.pieces():
        own = None if allowed is None else allowed[piece.start : piece.start + len(piece.embedding)]
        if own is not None and not own.any():
            continue
        distances.turn_to(piece, own)
        for start, stop, tile in iter_tiles(distances, what="search"):
            distance, index = tile.nearest(min(k, len(piece.embedding)))
            held = Nearest(found.distance[start:stop], found.indices[start:stop])
            held.distance[:], held.indices[:] = _nearest_of(
                np.concatenate([held.distance, distance], axis=1),
                np.concatenate([held.indices, np.where(index < 0, -1, index + piece.start)], axis=1),
                k,
            )
    return found


def approximate(
    index: FaissIndex, rows: GalleryRows, query: Tensor, k: int, metric: str, allowed: Mask | None
) -> Nearest:
    """As `exact`, among what an index proposes."""
    found = _nothing(len(query), k)
    ids = rows.about["id"] if allowed is None else rows.about["id"][allowed]
    proposed = index.search(query, PROPOSED * k, ids)
    positions = np.where(proposed < 0, -1, rows.positions(proposed.reshape(-1)).reshape(proposed.shape))
    step = max(1, AT_ONCE // positions.shape[1])
    for start in range(0, len(query), step):
        part, own = query[start : start + step], np.sort(positions[start : start + step], axis=1)
        embedding = rows.at(own.clip(min=0).reshape(-1)).view(*own.shape, -1)
        squared = (embedding - part[:, None]).square_().sum(dim=2).cpu().numpy()
        distance = np.where(own < 0, np.float32(np.inf), squared / 2 if metric == "cosine" else squared)
        found.distance[start : start + step], found.indices[start : start + step] = _nearest_of(distance, own, k)
    return found


def reranked(rerank: KReciprocal, rows: GalleryRows, query: Tensor, near: Nearest, k: int) -> Nearest:
    """The k nearest after re-ranking what is near to each query (Q, D), each query by itself."""
    found = _nothing(len(query), k)
    for i, listed in enumerate(near.indices):
        positions = listed[listed >= 0][None]
        if positions.size:
            distances = rerank(query[i : i + 1].cpu(), rows.at(positions[0]).cpu())
            distance, indices = _nearest_of(distances.block(0, 1).finished(), positions, k)
            found.distance[i, : indices.size], found.indices[i, : indices.size] = distance[0], indices[0]
    return found


def centroids(rows: GalleryRows, allowed: Mask | None, metric: str) -> GalleryRows:
    """One row an identity, the mean of those of its rows that are allowed (N,), with the entry of the first of them.

    Source: Mikolaj Wieczorek, Barbara Rychalska, Jacek Dabrowski, "On the Unreasonable Effectiveness of Centroids in Image
    Retrieval", ICONIP 2021.

    Raises:
        ValueError: if the identity of a row is unknown.
    """
    positions = np.arange(len(rows)) if allowed is None else np.flatnonzero(allowed)
    pids = rows.about["pid"][positions]
    if (unknown := int((pids < 0).sum())) > 0:
        raise ValueError(
            f"centroid=True: {unknown} of {len(pids)} images in the gallery have no identity; add with pids=."
        )
    _, first, group, counts = np.unique(pids, return_index=True, return_inverse=True, return_counts=True)
    total = torch.zeros(len(first), rows.size, dtype=torch.float64, device=rows.device)
    for start in range(0, len(positions), AT_ONCE):
        into = torch.from_numpy(group[start : start + AT_ONCE]).to(rows.device)
        total.index_add_(0, into, rows.at(positions[start : start + AT_ONCE]).double())
    mean = (total / torch.from_numpy(counts)[:, None].to(rows.device)).float()
    if metric == "cosine":
        mean = functional.normalize(mean)
    centroid_rows = GalleryRows(rows.device)
    centroid_rows.append(mean, rows.about[positions[first]], [""] * len(mean))
    return centroid_rows


def filters(
    about: NDArray[Any],
    count: int,
    camids: ArrayLike | Tensor | None,
    cameras: Sequence[int] | None,
    not_cameras: Sequence[int] | None,
    cross_camera: bool,
) -> Iterator[tuple[Integers, Mask | None]]:
    """Queries that may find the same rows, and which; None for all. For the arguments see `Gallery.search`.

    Raises:
        ValueError: if cameras are needed that are not known.
    """
    chosen = {"cameras": cameras, "not_cameras": not_cameras, "cross_camera": cross_camera or None}
    asked = [f"{name}={value}" for name, value in chosen.items() if value is not None]
    if asked and (about["camid"] < 0).all():
        raise ValueError(f"{', '.join(asked)}: the gallery knows no cameras; add images with camids=.")
    if cross_camera and camids is None:
        raise ValueError("cross_camera=True needs camids=, the camera of each query.")
    allowed = np.ones(len(about), np.bool_)
    if cameras is not None:
        allowed &= np.isin(about["camid"], cameras)
    if not_cameras is not None:
        allowed &= np.isin(about["camid"], not_cameras, invert=True)
    if not cross_camera or camids is None:
        yield np.arange(count), allowed if asked else None
        return
    own = as_labels("camids", camids, count, f"{count} queries")
    for camera in np.unique(own):
        yield np.flatnonzero(own == camera), allowed & ((about["camid"] != camera) | (camera < 0))


def _nearest_of(distance: NDArray[np.float32], indices: Integers, k: int) -> tuple[NDArray[np.float32], Integers]:
    """The k nearest of each row, equal distances in the order in which they come."""
    order = distance.argsort(axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distance, order, 1), np.take_along_axis(indices, order, 1)


def _nothing(count: int, k: int) -> Nearest:
    return Nearest(np.full((count, k), np.inf, np.float32), np.full((count, k), -1, np.int64))
