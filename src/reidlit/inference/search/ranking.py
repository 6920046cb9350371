"""Ranking of gallery rows: exact, approximate, re-ranked, by identity and by camera."""

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
CANDIDATES_PER_RESULT = 4  # candidates from FAISS per result; their exact distances decide
CHUNK = 2**14  # embeddings that are gathered, or converted to double precision, at once


class PieceDistances(EmbeddingDistances):
    """Distances of queries (Q, D) to one piece of a gallery at a time, with precomputed norms."""

    def __init__(self, query: Tensor, metric: str) -> None:
        super().__init__(query, query[:0], metric)

    def turn_to(self, piece: Piece, allowed: Mask | None) -> None:
        """Switch to a piece; rows that are not allowed (B,) get infinite distances."""
        self.gallery = piece.embedding
        self.offset = torch.zeros_like(piece.norms) if self.cosine else piece.norms
        if allowed is not None:
            excluded = torch.from_numpy(~allowed).to(self.offset.device)
            self.offset = self.offset.masked_fill(excluded, torch.inf)
        self.shape = (len(self.query), len(piece.embedding))


def exact(rows: GalleryRows, query: Tensor, k: int, metric: str, allowed: Mask | None) -> Nearest:
    """Return the nearest rows of each query: positions and distances (Q, k), padded with -1 and infinity.

    Args:
        rows: Gallery rows (N, D), of unit length if the metric is `cosine`.
        query: Queries (Q, D), of unit length if the metric is `cosine`.
        k: Number of rows per query.
        metric: `euclidean` or `cosine`.
        allowed: Mask (N,) of the rows to search; None for all.
    """
    result = _empty_result(len(query), k)
    distances = PieceDistances(query, metric)
    for piece in rows.pieces():
        piece_mask = None if allowed is None else allowed[piece.start : piece.start + len(piece.embedding)]
        if piece_mask is not None and not piece_mask.any():
            continue
        distances.turn_to(piece, piece_mask)
        for start, stop, tile in iter_tiles(distances, what="search"):
            distance, index = tile.nearest(min(k, len(piece.embedding)))
            current = Nearest(result.distance[start:stop], result.indices[start:stop])
            current.distance[:], current.indices[:] = _select_nearest(
                np.concatenate([current.distance, distance], axis=1),
                np.concatenate([current.indices, np.where(index < 0, -1, index + piece.start)], axis=1),
                k,
            )
    return result


def approximate(
    index: FaissIndex, rows: GalleryRows, query: Tensor, k: int, metric: str, allowed: Mask | None
) -> Nearest:
    """Return the nearest rows like `exact`, but only among the candidates of an index."""
    result = _empty_result(len(query), k)
    ids = rows.about["id"] if allowed is None else rows.about["id"][allowed]
    candidates = index.search(query, CANDIDATES_PER_RESULT * k, ids)
    positions = np.where(candidates < 0, -1, rows.positions(candidates.reshape(-1)).reshape(candidates.shape))
    step = max(1, CHUNK // positions.shape[1])
    for start in range(0, len(query), step):
        chunk, chunk_positions = query[start : start + step], np.sort(positions[start : start + step], axis=1)
        embedding = rows.at(chunk_positions.clip(min=0).reshape(-1)).view(*chunk_positions.shape, -1)
        squared = (embedding - chunk[:, None]).square_().sum(dim=2).cpu().numpy()
        distance = np.where(chunk_positions < 0, np.float32(np.inf), squared / 2 if metric == "cosine" else squared)
        selected = _select_nearest(distance, chunk_positions, k)
        result.distance[start : start + step], result.indices[start : start + step] = selected
    return result


def reranked(rerank: KReciprocal, rows: GalleryRows, query: Tensor, nearest: Nearest, k: int) -> Nearest:
    """Re-rank the nearest rows of each query (Q, D), independently of other queries, and return the k nearest."""
    result = _empty_result(len(query), k)
    for i, neighbors in enumerate(nearest.indices):
        positions = neighbors[neighbors >= 0][None]
        if positions.size:
            distances = rerank(query[i : i + 1].cpu(), rows.at(positions[0]).cpu())
            distance, indices = _select_nearest(distances.block(0, 1).finished(), positions, k)
            result.distance[i, : indices.size], result.indices[i, : indices.size] = distance[0], indices[0]
    return result


def centroids(rows: GalleryRows, allowed: Mask | None, metric: str) -> GalleryRows:
    """Return one row per identity: the mean of its allowed rows (N,), with the entry of the first of them.

    Source: Mikolaj Wieczorek, Barbara Rychalska, Jacek Dabrowski, "On the Unreasonable Effectiveness of Centroids in
    Image Retrieval", ICONIP 2021.

    Raises:
        ValueError: If the identity of a row is unknown.
    """
    positions = np.arange(len(rows)) if allowed is None else np.flatnonzero(allowed)
    pids = rows.about["pid"][positions]
    if (unknown := int((pids < 0).sum())) > 0:
        raise ValueError(
            f"centroid=True requires identities, but {unknown} of {len(pids)} gallery images have none: add images with "
            "pids=."
        )
    _, first, group, counts = np.unique(pids, return_index=True, return_inverse=True, return_counts=True)
    total = torch.zeros(len(first), rows.size, dtype=torch.float64, device=rows.device)
    for start in range(0, len(positions), CHUNK):
        groups = torch.from_numpy(group[start : start + CHUNK]).to(rows.device)
        total.index_add_(0, groups, rows.at(positions[start : start + CHUNK]).double())
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
    """Yield groups of queries with the mask of rows that they search; None for all rows.

    The arguments are those of `Gallery.search`; `about` contains the entries of the gallery.

    Raises:
        ValueError: If required cameras are unknown.
    """
    arguments = {"cameras": cameras, "not_cameras": not_cameras, "cross_camera": cross_camera or None}
    active = [f"{name}={value}" for name, value in arguments.items() if value is not None]
    if active and (about["camid"] < 0).all():
        raise ValueError(f"{', '.join(active)} requires cameras, but the gallery has none: add images with camids=.")
    if cross_camera and camids is None:
        raise ValueError("cross_camera=True requires the camera of each query: pass camids=.")
    allowed = np.ones(len(about), np.bool_)
    if cameras is not None:
        allowed &= np.isin(about["camid"], cameras)
    if not_cameras is not None:
        allowed &= np.isin(about["camid"], not_cameras, invert=True)
    if not cross_camera or camids is None:
        yield np.arange(count), allowed if active else None
        return
    query_cameras = as_labels("camids", camids, count, f"{count} queries")
    for camera in np.unique(query_cameras):
        yield np.flatnonzero(query_cameras == camera), allowed & ((about["camid"] != camera) | (camera < 0))


def _select_nearest(distance: NDArray[np.float32], indices: Integers, k: int) -> tuple[NDArray[np.float32], Integers]:
    """Return the k nearest per row; of equal distances, the first comes first."""
    order = distance.argsort(axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distance, order, 1), np.take_along_axis(indices, order, 1)


def _empty_result(count: int, k: int) -> Nearest:
    return Nearest(np.full((count, k), np.inf, np.float32), np.full((count, k), -1, np.int64))
