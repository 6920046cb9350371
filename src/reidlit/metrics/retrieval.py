"""CMC, mAP and mINP of a query set against a gallery."""

from collections.abc import Callable
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from reidlit.metrics.distance import METRICS, GalleryDistance
from reidlit.metrics.inputs import as_distance_rows, as_embeddings, as_labels
from reidlit.metrics.kernels import Floats, Integers, QueryScores, score_queries
from reidlit.metrics.protocol import PROTOCOLS

BLOCK_BYTES = 64 * 2**20

# Numba's fallback threading layer aborts the process when two Python threads enter it at once.
_KERNEL = Lock()


class Scores(NamedTuple):
    """What an evaluation found, in fractions, not percent, and averaged over the queries that have a match.

    A named tuple and no frozen dataclass, because torchmetrics rebuilds what a metric's `compute` returns.

    Attributes:
        cmc: (max_rank,) share of queries with a match among the first k + 1; `cmc[0]` is rank-1.
        mAP: Mean average precision: precision averaged over a query's matches, without interpolation. Source: Liang
            Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.
        mINP: Mean inverse negative penalty, number of matches / rank of the hardest. Source: Mang Ye et al., "Deep
            Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021.
        num_valid: Queries with a match, which all averages are over.
        num_queries: All queries.
        num_no_match: Queries without a match left, which no average counts.
        ap: (num_queries,) average precision of each query, NaN without a match.
        inp: (num_queries,) inverse negative penalty of each query, NaN without a match.
        first_match: (num_queries,) rank of the first match, from 1; 0 without a match.
        num_matches: (num_queries,) number of matches.
    """

    cmc: Floats
    mAP: float
    mINP: float
    num_valid: int
    num_queries: int
    num_no_match: int
    ap: Floats
    inp: Floats
    first_match: Integers
    num_matches: Integers

    def rank(self, k: int) -> float:
        """CMC at rank k, for any k: beyond the gallery it stays at the last value.

        Args:
            k: From 1; not limited by max_rank.

        Returns:
            The share of valid queries with a match among the first k.

        Raises:
            ValueError: k is below 1.
        """
        if k < 1:
            raise ValueError(f"k={k} is no rank; ranks start at 1")
        return int(np.count_nonzero((self.first_match > 0) & (self.first_match <= k))) / self.num_valid

    def as_dict(self) -> dict[str, float]:
        """The figures that are logged."""
        ranks = {f"rank{k}": self.rank(k) for k in (1, 5, 10, 20)}
        counts = {"num_valid": self.num_valid, "num_queries": self.num_queries}
        return {"mAP": self.mAP, "mINP": self.mINP, **ranks, **counts}

    def __repr__(self) -> str:
        """The logged figures; the arrays would fill pages."""
        return f"Scores({', '.join(f'{name}={value:.4g}' for name, value in self.as_dict().items())})"


def evaluate(
    query: ArrayLike | Tensor | None,
    gallery: ArrayLike | Tensor | None,
    q_pids: ArrayLike | Tensor,
    g_pids: ArrayLike | Tensor,
    q_camids: ArrayLike | Tensor | None = None,
    g_camids: ArrayLike | Tensor | None = None,
    *,
    metric: str = "euclidean",
    protocol: str = "market1501",
    normalize: bool = False,
    max_rank: int = 50,
    distance: ArrayLike | Tensor | None = None,
    block_size: int | None = None,
) -> Scores:
    """Rank the gallery for every query and score the ranking.

    Equal distances are ranked in gallery order. The distances are computed in fp32 and in blocks of queries, on the
    device of the embeddings; the query x gallery matrix never exists.

    Args:
        query: (Q, D) embeddings, NumPy or torch, of any real type; ignored, and may be None, with `distance`.
        gallery: (G, D) likewise.
        q_pids: (Q,) integers, the identity of each query.
        g_pids: (G,) likewise.
        q_camids: (Q,) integers, the camera of each query; without both camids nothing is left out as junk.
        g_camids: (G,) likewise.
        metric: "euclidean" or "cosine", as in `pairwise_distance`.
        protocol: "market1501": gallery entries with the query's pid and camid are left out.
        normalize: Scale the embeddings to unit length first.
        max_rank: Length of `Scores.cmc`; the gallery may be smaller.
        distance: (Q, G) matrix to rank by, smallest first, instead of embeddings, as from re-ranking.
        block_size: Queries at a time, by default as many as have 64 MiB of distances. The ranking of given distances
            does not depend on it; a matrix product may round differently in its last bit.

    Returns:
        The scores, averaged over queries that have a match; the others are counted.

    Raises:
        ValueError: An argument does not fit, an embedding is not finite, or no query has a match.
    """
    check_options(metric, protocol, max_rank)
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size={block_size} must be at least 1, or None to choose it by memory")
    if (q_camids is None) != (g_camids is None):
        missing = "q_camids" if q_camids is None else "g_camids"
        raise ValueError(f"{missing} is None while the other camids are given; pass both, or neither")

    if distance is None:
        (num_queries, num_gallery), rows = _rows_of_embeddings(query, gallery, metric, normalize)
    else:
        (num_queries, num_gallery), rows = _rows_of_matrix(distance)
    q_pids = as_labels("q_pids", q_pids, num_queries, "the query set")
    g_pids = as_labels("g_pids", g_pids, num_gallery, "the gallery")
    q_cams = None if q_camids is None else as_labels("q_camids", q_camids, num_queries, "the query set")
    g_cams = None if g_camids is None else as_labels("g_camids", g_camids, num_gallery, "the gallery")

    relevance = PROTOCOLS[protocol](g_pids, g_cams)
    size = block_size or max(1, BLOCK_BYTES // (4 * num_gallery))
    blocks = []
    for start in range(0, num_queries, size):
        stop = min(start + size, num_queries)
        relevant = relevance(q_pids[start:stop], None if q_cams is None else q_cams[start:stop])
        block = rows(start, stop)
        with _KERNEL:
            blocks.append(score_queries(block, *relevant))
    return _summarise(QueryScores(*(np.concatenate(field) for field in zip(*blocks, strict=True))), max_rank)


def check_options(metric: str, protocol: str, max_rank: int) -> None:
    """Refuse options that `evaluate` would refuse, before an epoch is spent on embeddings.

    Args:
        metric: One of `METRICS`.
        protocol: One of `PROTOCOLS`.
        max_rank: From 1.

    Raises:
        ValueError: Another value.
    """
    for name, value, allowed in (("metric", metric, METRICS), ("protocol", protocol, tuple(PROTOCOLS))):
        if value not in allowed:
            raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(allowed)}")
    if max_rank < 1:
        raise ValueError(f"max_rank={max_rank} must be at least 1")


_Rows = Callable[[int, int], NDArray[Any]]


def _rows_of_embeddings(
    query: ArrayLike | Tensor | None, gallery: ArrayLike | Tensor | None, metric: str, normalize: bool
) -> tuple[tuple[int, int], _Rows]:
    q, g = as_embeddings("query", query), as_embeddings("gallery", gallery)
    if q.shape[1] != g.shape[1]:
        raise ValueError(
            f"query has {q.shape[1]} dimensions and gallery has {g.shape[1]}; embed both sets with the same model"
        )
    q = q.to(g.device)
    if normalize:
        q, g = torch.nn.functional.normalize(q), torch.nn.functional.normalize(g)
    to_gallery = GalleryDistance(g, metric)
    return (len(q), len(g)), lambda start, stop: to_gallery(q[start:stop]).cpu().numpy()


def _rows_of_matrix(distance: ArrayLike | Tensor) -> tuple[tuple[int, int], _Rows]:
    matrix = distance if isinstance(distance, Tensor) else np.asarray(distance)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"distance must be (Q, G) and not empty, got shape {tuple(matrix.shape)}")
    return (matrix.shape[0], matrix.shape[1]), lambda start, stop: as_distance_rows(matrix, start, stop)


def _summarise(queries: QueryScores, max_rank: int) -> Scores:
    valid = queries.num_matches > 0
    num_valid = int(valid.sum())
    if num_valid == 0:
        raise ValueError(
            f"none of the {len(valid)} queries has a match in the gallery; check that q_pids and g_pids number the "
            "same identities, and, where each identity has one camera only, leave out q_camids and g_camids"
        )
    hits = np.bincount(queries.first_match[valid].clip(max=max_rank + 1), minlength=max_rank + 2)
    return Scores(
        cmc=np.cumsum(hits[1 : max_rank + 1]) / num_valid,
        mAP=float(queries.ap[valid].mean()),
        mINP=float(queries.inp[valid].mean()),
        num_valid=num_valid,
        num_queries=len(valid),
        num_no_match=len(valid) - num_valid,
        **queries._asdict(),
    )
