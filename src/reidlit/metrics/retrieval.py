"""Evaluation of a query set against a gallery."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from reidlit.labels import UNKNOWN
from reidlit.metrics._ranking.pair_counts import PairCounts
from reidlit.metrics._ranking.rank_scores import AP_FORMULAS, RankScores, RankScoring
from reidlit.metrics._ranking.tiles import Answered, Questions
from reidlit.metrics._ranking.types import Integers
from reidlit.metrics.camera_pairs import CameraPairTable
from reidlit.metrics.distance import METRICS, Distances, EmbeddingDistances, GivenDistances, parts
from reidlit.metrics.identity_pooling import centroid_galleries, pool
from reidlit.metrics.inputs import as_labels, as_pair
from reidlit.metrics.nearest import NearestLists
from reidlit.metrics.protocols import PROTOCOLS, CrossCamera
from reidlit.metrics.scores import Scores
from reidlit.metrics.single_shot import SingleShot

PostProcessing: TypeAlias = Callable[[Tensor, Tensor], "tuple[Tensor, Tensor] | Distances"]


class Options(TypedDict, total=False):
    """The options of `evaluate`, which describes them."""

    metric: str
    normalize: bool
    protocol: str
    ap: str
    max_rank: int
    postprocess: Sequence[PostProcessing]
    verification: bool
    camera_pairs: bool
    top_k: int
    repeats: int
    seed: int


class Labels(NamedTuple):
    """Identities and cameras of queries (Q,) and gallery (G,); both camids are None where none are given.

    A negative camid is no camera; see `_apart`.
    """

    q_pids: Integers
    g_pids: Integers
    q_camids: Integers | None
    g_camids: Integers | None


class Ranking(NamedTuple):
    """Some queries, as rows (B,) of the query set, and the gallery that they are ranked against."""

    rows: Integers
    distances: Distances
    labels: Labels


def evaluate(
    query: ArrayLike | Tensor | None,
    gallery: ArrayLike | Tensor | None,
    q_pids: ArrayLike | Tensor,
    g_pids: ArrayLike | Tensor,
    q_camids: ArrayLike | Tensor | None = None,
    g_camids: ArrayLike | Tensor | None = None,
    *,
    distance: ArrayLike | Tensor | None = None,
    block_size: int | None = None,
    **options: Unpack[Options],
) -> Scores:
    """Rank the gallery for every query and score the ranking.

    Equal distances are ranked in gallery order. The distances are computed in fp32 and in blocks of queries, on the
    device of the embeddings; the query x gallery matrix never exists.

    Args:
        query: (Q, D) embeddings, NumPy or torch, of any real type; ignored, and may be None, with `distance`.
        gallery: (G, D) likewise.
        q_pids: (Q,) integers, the identity of each query.
        g_pids: (G,) likewise.
        q_camids: (Q,) integers, the camera of each query; without both camids nothing is left out as junk. Of the
            negative ones, which are no cameras, -1 stands for an unknown camera and equals no other; a number below -1
            names the image, so that a query that is in the gallery too does not find itself.
        g_camids: (G,) likewise.
        distance: (Q, G) matrix to rank by, smallest first, instead of embeddings, as from re-ranking.
        block_size: Queries at a time, by default as many as fit some memory; the result does not depend on it.
        **options: Any of
            metric ("euclidean"): or "cosine", as in `pairwise_distance`.
            normalize (False): Scale the embeddings to unit length first.
            protocol ("market1501"): Gallery entries with the query's pid and camid are left out. "cuhk03": likewise,
                and the CMC is the mean over draws of a gallery with one image an identity (`SingleShot`).
                "multi_query": queries of one pid and camid are averaged into one. "centroid": the gallery entries of an
                identity, without those of the query's camera, are averaged into one (`centroid_galleries`);
                comparable with no other protocol.
            ap ("step"): Precision averaged over the matches. "trapezoid": the mean of that and of the precision just
                before each match, as in the toolkit that came with Market-1501.
            max_rank (50): Length of `Scores.cmc`; the gallery may be smaller.
            postprocess (none): Steps that are applied one after the other to the embeddings, as `QueryExpansion`; the
                last may be a re-ranking, as `KReciprocal`, which gives distances. With the cosine metric or `normalize`
                they are given embeddings of unit length.
            verification (False): Whether to compute ROC, AUC, EER and TPR over all pairs.
            camera_pairs (False): Whether to score each pair of cameras, where they are known.
            top_k (0): Length of the ranked lists to return. Centroids have neither lists nor cameras.
            repeats (10): Draws of the CUHK03 protocol.
            seed (0): Of these draws.

    Returns:
        The scores, averaged over queries that have a match; the others are counted.

    Raises:
        ValueError: An argument does not fit, an embedding is not finite, or no query has a match.
    """
    check_options(options)
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size={block_size} must be at least 1, or None to choose it by memory")
    if distance is None:
        embeddings = as_pair(query, gallery)
        labels = _labels(q_pids, g_pids, q_camids, g_camids, len(embeddings[0]), len(embeddings[1]))
        labels, rankings = _rank_embeddings(*embeddings, labels, options)
    else:
        given = _given(distance, options)
        labels = _labels(q_pids, g_pids, q_camids, g_camids, *given.shape)
        rankings = iter([Ranking(np.arange(given.shape[0]), given, labels)])

    num_queries = len(labels.q_pids)
    scoring = RankScoring(num_queries, options.get("ap", "step"))
    shots = pairs = cameras = lists = None
    if options.get("protocol") == "cuhk03":
        shots = SingleShot(num_queries, labels.g_pids, options.get("repeats", 10), options.get("seed", 0))
    if options.get("verification"):
        pairs = PairCounts(num_queries)
    has_images = options.get("protocol") != "centroid"
    if options.get("camera_pairs") and has_images and (known := _all_cameras(labels)):
        cameras = CameraPairTable(*known)
    if options.get("top_k") and has_images:
        lists = NearestLists(num_queries, len(labels.g_pids), options["top_k"])
    questions = Questions(None if cameras is None else cameras.groups, 0 if lists is None else lists.k)
    collectors = [collector for collector in (scoring, shots, pairs, cameras, lists) if collector is not None]
    for ranking in rankings:
        relevance_of = CrossCamera(ranking.labels.g_pids, ranking.labels.g_camids)
        for start, stop, block in parts(ranking.distances, block_size, "evaluation"):
            q_cams = None if ranking.labels.q_camids is None else ranking.labels.q_camids[start:stop]
            relevance = relevance_of(ranking.labels.q_pids[start:stop], q_cams)
            if pairs is not None:
                questions = questions._replace(histogram=pairs.histogram_for(block))
            part = Answered(ranking.rows[start:stop], block, relevance, block.answer(relevance, questions))
            for collector in collectors:
                collector.add(part)

    found = scoring.result()
    valid = found.num_matches > 0
    shot_ranks = None if shots is None else shots.result()
    return Scores(
        **_averages(found, valid, shot_ranks, options.get("max_rank", 50)),
        **_counts(labels, valid),
        **found._asdict(),
        shot_ranks=shot_ranks,
        verification=None if pairs is None else pairs.result(),
        camera_pairs=None if cameras is None else cameras.result(),
        nearest=None if lists is None else lists.result(),
    )


def check_options(options: Options) -> None:
    """Refuse options that `evaluate` would refuse, before an epoch is spent on embeddings.

    Raises:
        ValueError: An unknown option or value.
    """
    unknown = set(options) - set(Options.__annotations__)
    if unknown:
        raise ValueError(f"evaluate has no option {sorted(unknown)}; choose of {', '.join(Options.__annotations__)}")
    choices = {"metric": METRICS, "protocol": PROTOCOLS, "ap": AP_FORMULAS}
    for name, allowed in choices.items():
        value = options.get(name, allowed[0])
        if value not in allowed:
            raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(allowed)}")
    least = {"max_rank": 1, "top_k": 0, "repeats": 1, "seed": 0}
    for name, bound in least.items():
        value = options.get(name, bound)
        if not isinstance(value, int) or value < bound:
            raise ValueError(f"{name}={value} must be an integer from {bound}")


def _given(distance: ArrayLike | Tensor, options: Options) -> GivenDistances:
    for name, needs in (("postprocess", options.get("postprocess")), ("protocol", options.get("protocol"))):
        if needs and needs not in ("market1501", "cuhk03"):
            raise ValueError(f"{name}={needs!r} works on embeddings; pass query and gallery instead of distance")
    matrix = distance if isinstance(distance, Tensor) else np.asarray(distance)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"distance must be (Q, G) and not empty, got shape {tuple(matrix.shape)}")
    return GivenDistances(matrix)


def _labels(
    q_pids: ArrayLike | Tensor,
    g_pids: ArrayLike | Tensor,
    q_camids: ArrayLike | Tensor | None,
    g_camids: ArrayLike | Tensor | None,
    num_queries: int,
    num_gallery: int,
) -> Labels:
    if (q_camids is None) != (g_camids is None):
        missing = "q_camids" if q_camids is None else "g_camids"
        raise ValueError(f"{missing} is None while the other camids are given; pass both, or neither")
    pids = (
        as_labels("q_pids", q_pids, num_queries, "the query set"),
        as_labels("g_pids", g_pids, num_gallery, "the gallery"),
    )
    if q_camids is None or g_camids is None:
        return Labels(*pids, None, None)
    q_cams = as_labels("q_camids", q_camids, num_queries, "the query set")
    g_cams = as_labels("g_camids", g_camids, num_gallery, "the gallery")
    q_cams, g_cams = _apart(q_cams, 0), _apart(g_cams, num_queries)
    if max(q_cams.max(), g_cams.max()) < 0 and not np.isin(q_cams, g_cams).any():
        return Labels(*pids, None, None)  # no camera, and no query is in the gallery
    return Labels(*pids, q_cams, g_cams)


def _apart(camids: Integers, first: int) -> Integers:
    """The same with a number of its own for each unknown camera, so that no two of them are taken for one."""
    unknown = np.flatnonzero(camids == UNKNOWN)
    if not len(unknown):
        return camids
    apart = camids.copy()
    apart[unknown] = np.iinfo(np.int64).min + first + unknown
    return apart


def _all_cameras(labels: Labels) -> tuple[Integers, Integers] | None:
    """The cameras of queries and gallery, if all are known."""
    if labels.q_camids is None or labels.g_camids is None or min(labels.q_camids.min(), labels.g_camids.min()) < 0:
        return None
    return labels.q_camids, labels.g_camids


def _rank_embeddings(
    query: Tensor, gallery: Tensor, labels: Labels, options: Options
) -> tuple[Labels, Iterator[Ranking]]:
    """The labels of the queries as the protocol has them, and their rankings."""
    metric, protocol = options.get("metric", "euclidean"), options.get("protocol", "market1501")
    steps = options.get("postprocess", ())
    if options.get("normalize") or (metric == "cosine" and steps):
        query, gallery = functional.normalize(query), functional.normalize(gallery)
    if protocol == "multi_query":
        query, pids, camids = pool(query, labels.q_pids, labels.q_camids)
        labels = labels._replace(q_pids=pids, q_camids=camids)
    distances: Distances | None = None
    for step in steps:
        if distances is not None:
            raise ValueError("postprocess goes on after a re-ranking, which gives distances; put the re-ranking last")
        result = step(query, gallery)
        if isinstance(result, tuple):
            query, gallery = result
        else:
            distances = result
    if protocol == "centroid":
        if distances is not None:
            raise ValueError(
                "postprocess holds a re-ranking, which has no centroids; protocol='centroid' cannot use it"
            )
        return labels, _rank_centroids(query, gallery, labels, metric)
    ranking = Ranking(np.arange(len(query)), distances or EmbeddingDistances(query, gallery, metric), labels)
    return labels, iter([ranking])


def _rank_centroids(query: Tensor, gallery: Tensor, labels: Labels, metric: str) -> Iterator[Ranking]:
    for rows, centroids in centroid_galleries(gallery, labels.g_pids, labels.q_camids, labels.g_camids, len(query)):
        distances = EmbeddingDistances(query[rows], centroids.embedding, metric)
        # The query's camera is left out of the centroids already.
        yield Ranking(rows, distances, Labels(labels.q_pids[rows], centroids.pids, None, None))


def _averages(found: RankScores, valid: Any, shot_ranks: Integers | None, max_rank: int) -> dict[str, Any]:
    num_valid = int(valid.sum())
    if num_valid == 0:
        raise ValueError(
            f"none of the {len(valid)} queries has a match in the gallery; check that q_pids and g_pids number the "
            "same identities, and, where each identity has one camera only, leave out q_camids and g_camids"
        )
    ranks = found.first_match[:, None] if shot_ranks is None else shot_ranks
    hits = np.bincount(ranks[valid].reshape(-1).clip(max=max_rank + 1), minlength=max_rank + 2)
    return {
        "cmc": np.cumsum(hits[1 : max_rank + 1]) / ranks[valid].size,
        # Exact sums, so that the order of the queries does not show in the last bit.
        "mAP": math.fsum(found.ap[valid]) / num_valid,
        "mINP": math.fsum(found.inp[valid]) / num_valid,
        "num_valid": num_valid,
    }


def _counts(labels: Labels, valid: Any) -> dict[str, Any]:
    absent = int((~np.isin(labels.q_pids, labels.g_pids)).sum())
    no_match = int((~valid).sum())
    return {
        "num_queries": len(valid),
        "num_no_match": no_match,
        "num_absent": absent,
        "num_same_camera": no_match - absent,
        "has_cameras": any(camids is not None and camids.max() >= 0 for camids in (labels.q_camids, labels.g_camids)),
    }
