"""Evaluation of a query set against a gallery."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import normalize

from reidlit.metrics._ranking.rank_scores import AP_FORMULAS, RankScoring
from reidlit.metrics._ranking.tiles import RankedTile, RankingRequest
from reidlit.metrics._ranking.types import Floats, Integers
from reidlit.metrics.camera_pairs import CameraPairTable
from reidlit.metrics.distance import METRICS, Distances, EmbeddingDistances, MatrixDistances, iter_tiles
from reidlit.metrics.inputs import LabelArray, Labels, as_label_set, as_pair, check_integer
from reidlit.metrics.nearest import NearestLists
from reidlit.metrics.protocols import PROTOCOLS, CrossCamera, SingleShotRanks, centroid_galleries, pool_identities
from reidlit.metrics.scores import Scores
from reidlit.metrics.verification import PairCounts

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


DEFAULTS: Options = {
    "metric": "euclidean",
    "normalize": False,
    "protocol": "market1501",
    "ap": "step",
    "max_rank": 50,
    "postprocess": (),
    "verification": False,
    "camera_pairs": False,
    "top_k": 0,
    "repeats": 10,
    "seed": 0,
}


class Embeddings(NamedTuple):
    """Query (Q, D) and gallery (G, D) embeddings, float32 and on one device."""

    query: Tensor
    gallery: Tensor


class QueryGroup(NamedTuple):
    """Queries, as rows (B,) of the query set, and the gallery that they are ranked against."""

    rows: Integers
    distances: Distances
    labels: Labels


class Collectors(NamedTuple):
    """Collectors of the results of all tiles; None for results that are not requested."""

    scores: RankScoring
    single_shot: SingleShotRanks | None
    pairs: PairCounts | None
    cameras: CameraPairTable | None
    lists: NearestLists | None


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
                and the CMC is the mean over draws of a gallery with one image an identity (`SingleShotRanks`).
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
    options = DEFAULTS | options
    source, labels = _read_inputs(query, gallery, distance, (q_pids, g_pids, q_camids, g_camids), options)
    source, labels = _postprocess(source, labels, options)
    groups = _apply_protocol(source, labels, options)
    collectors = _rank(groups, _collectors(labels, options), block_size)
    return _scores(collectors, labels, options)


def check_options(options: Options) -> None:
    """Refuse options that `evaluate` would refuse, before an epoch is spent on embeddings.

    Raises:
        ValueError: If an option is unknown or its value is not allowed.
    """
    unknown = set(options) - set(DEFAULTS)
    if unknown:
        raise ValueError(f"evaluate has no option {sorted(unknown)}; choose of {', '.join(DEFAULTS)}")
    values: dict[str, Any] = {**DEFAULTS, **options}
    for name, choices in (("metric", METRICS), ("protocol", PROTOCOLS), ("ap", AP_FORMULAS)):
        if values[name] not in choices:
            raise ValueError(f"{name}={values[name]!r} is unknown; choose one of {', '.join(choices)}")
    for name, least in (("max_rank", 1), ("top_k", 0), ("repeats", 1), ("seed", 0)):
        check_integer(name, values[name], least)


def _read_inputs(
    query: ArrayLike | Tensor | None,
    gallery: ArrayLike | Tensor | None,
    distance: ArrayLike | Tensor | None,
    labels: tuple[LabelArray, LabelArray, LabelArray | None, LabelArray | None],
    options: Options,
) -> tuple[Embeddings | Distances, Labels]:
    """Return what is ranked, embeddings or the caller's distances, and the labels."""
    if distance is None:
        embeddings = Embeddings(*as_pair(query, gallery))
        return embeddings, as_label_set(*labels, len(embeddings.query), len(embeddings.gallery))
    remedy = "works on embeddings; pass query and gallery instead of distance"
    if options["postprocess"]:
        raise ValueError(f"postprocess={options['postprocess']!r} {remedy}")
    if options["protocol"] in ("multi_query", "centroid"):
        raise ValueError(f"protocol={options['protocol']!r} {remedy}")
    matrix = distance if isinstance(distance, Tensor) else np.asarray(distance)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"distance must be (Q, G) and not empty, got shape {tuple(matrix.shape)}")
    distances = MatrixDistances(matrix)
    return distances, as_label_set(*labels, *distances.shape)


def _postprocess(
    source: Embeddings | Distances, labels: Labels, options: Options
) -> tuple[Embeddings | Distances, Labels]:
    """Normalize the embeddings, average the queries for multi_query, and apply the steps.

    Returns:
        The new embeddings, or the distances that the last step returns, and the labels of the queries that remain.
    """
    if not isinstance(source, Embeddings):
        return source, labels
    query, gallery = source
    if options["normalize"] or (options["metric"] == "cosine" and options["postprocess"]):
        query, gallery = normalize(query), normalize(gallery)
    if options["protocol"] == "multi_query":
        query, pids, camids = pool_identities(query, labels.q_pids, labels.q_camids)
        labels = labels._replace(q_pids=pids, q_camids=camids)
    distances: Distances | None = None
    for step in options["postprocess"]:
        if distances is not None:
            raise ValueError("postprocess goes on after a re-ranking, which gives distances; put the re-ranking last")
        result = step(query, gallery)
        if isinstance(result, tuple):
            query, gallery = result
        else:
            distances = result
    return Embeddings(query, gallery) if distances is None else distances, labels


def _apply_protocol(source: Embeddings | Distances, labels: Labels, options: Options) -> Iterator[QueryGroup]:
    """Yield the queries with the distances to the gallery that the protocol ranks them against."""
    queries, metric, is_centroid = np.arange(len(labels.q_pids)), options["metric"], options["protocol"] == "centroid"
    if not isinstance(source, Embeddings):
        if is_centroid:
            raise ValueError(
                "postprocess holds a re-ranking, which has no centroids; protocol='centroid' cannot use it"
            )
        yield QueryGroup(queries, source, labels)
    elif not is_centroid:
        yield QueryGroup(queries, EmbeddingDistances(*source, metric), labels)
    else:
        _, g_pids, q_camids, g_camids = labels
        for rows, centroids in centroid_galleries(source.gallery, g_pids, q_camids, g_camids, len(queries)):
            distances = EmbeddingDistances(source.query[rows], centroids.embedding, metric)
            # The images of the query's camera are not in the centroids, so nothing is junk.
            yield QueryGroup(rows, distances, Labels(labels.q_pids[rows], centroids.pids, None, None))


def _collectors(labels: Labels, options: Options) -> Collectors:
    """Create the collectors of the requested results; centroids have neither cameras nor ranked lists."""
    num_queries, has_images = len(labels.q_pids), options["protocol"] != "centroid"
    single_shot = pairs = cameras = lists = None
    if options["protocol"] == "cuhk03":
        single_shot = SingleShotRanks(num_queries, labels.g_pids, options["repeats"], options["seed"])
    if options["verification"]:
        pairs = PairCounts(num_queries)
    if options["camera_pairs"] and has_images and (camids := labels.known_camids):
        cameras = CameraPairTable(*camids)
    if options["top_k"] and has_images:
        lists = NearestLists(num_queries, len(labels.g_pids), options["top_k"])
    return Collectors(RankScoring(num_queries, options["ap"]), single_shot, pairs, cameras, lists)


def _rank(groups: Iterator[QueryGroup], collectors: Collectors, block_size: int | None) -> Collectors:
    """Rank all queries, one tile after the other, and hand each tile to the collectors."""
    _, _, pairs, cameras, lists = collectors
    request = RankingRequest(groups=cameras.groups if cameras else None, k=lists.k if lists else 0)
    for group in groups:
        q_pids, g_pids, q_camids, g_camids = group.labels
        relevance_of = CrossCamera(g_pids, g_camids)
        for start, stop, tile in iter_tiles(group.distances, block_size, "evaluation"):
            relevance = relevance_of(q_pids[start:stop], None if q_camids is None else q_camids[start:stop])
            if pairs is not None:
                request = request._replace(histogram=pairs.histogram_for(tile))
            ranked = RankedTile(group.rows[start:stop], tile, relevance, tile.rank(relevance, request))
            for collector in collectors:
                if collector is not None:
                    collector.add(ranked)
    return collectors


def _scores(collectors: Collectors, labels: Labels, options: Options) -> Scores:
    """Average the collected results over the queries that have a match and count the others."""
    scores = collectors.scores.result()
    is_valid = scores.num_matches > 0
    num_valid, num_no_match = int(is_valid.sum()), int((~is_valid).sum())
    if num_valid == 0:
        raise ValueError(
            f"none of the {len(is_valid)} queries has a match in the gallery; check that q_pids and g_pids number the "
            "same identities, and, where each identity has one camera only, leave out q_camids and g_camids"
        )
    _, single_shot, pairs, cameras, lists = collectors
    shot_ranks = None if single_shot is None else single_shot.result()
    ranks = scores.first_match[:, None] if shot_ranks is None else shot_ranks
    num_absent = int((~np.isin(labels.q_pids, labels.g_pids)).sum())
    return Scores(
        cmc=_cmc(ranks[is_valid], options["max_rank"]),
        # Exact sums, so that the order of the queries does not change the last bit.
        mAP=math.fsum(scores.ap[is_valid]) / num_valid,
        mINP=math.fsum(scores.inp[is_valid]) / num_valid,
        num_valid=num_valid,
        num_queries=len(is_valid),
        num_no_match=num_no_match,
        num_absent=num_absent,
        num_same_camera=num_no_match - num_absent,
        has_cameras=labels.has_cameras,
        **scores._asdict(),
        shot_ranks=shot_ranks,
        verification=None if pairs is None else pairs.result(),
        camera_pairs=None if cameras is None else cameras.result(),
        nearest=None if lists is None else lists.result(),
    )


def _cmc(ranks: Integers, max_rank: int) -> Floats:
    """Return the CMC (max_rank,) from the ranks (V, repeats) of the first matches, which start at 1."""
    hits = np.bincount(ranks.reshape(-1).clip(max=max_rank + 1), minlength=max_rank + 2)
    return np.cumsum(hits[1 : max_rank + 1]) / ranks.size
