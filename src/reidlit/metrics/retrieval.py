"""Evaluation of retrieval: query embeddings against a gallery."""

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
    """Keyword options of `evaluate` and `ReIDMetric`; `evaluate` documents them."""

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
    """Queries, given as row indices (B,) of the query set, and the gallery that they are ranked against."""

    rows: Integers
    distances: Distances
    labels: Labels


class Collectors(NamedTuple):
    """Collectors that gather results from all tiles; None for results that are not requested."""

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
    """Compute CMC, mAP and mINP by ranking the gallery for every query.

    Gallery entries are ranked by ascending distance; equal distances keep gallery order. Distances are computed in
    float32, in blocks of queries, on the device of the gallery embeddings. The full (Q, G) matrix is never stored.

    All scores are fractions from 0 to 1, not percentages. They are averaged over the queries that have a match in the
    gallery. The other queries are counted in `Scores.num_no_match`.

    Protocols:

    - `"market1501"`: Gallery entries with the pid and the camid of the query are junk. They are removed before ranking.
    - `"cuhk03"`: Junk is removed as above. The CMC is the mean over `repeats` random galleries with one image per
      identity; mAP and mINP use the complete gallery.
    - `"multi_query"`: Query embeddings with the same pid and camid are averaged into one query.
    - `"centroid"`: The gallery embeddings of each identity are averaged into one entry, without the images from the
      query's camera. Scores are not comparable with those of other protocols.

    Args:
        query: (Q, D) query embeddings, an array or tensor of any real dtype. Ignored, and may be None, if `distance` is
            given.
        gallery: (G, D) gallery embeddings, like `query`.
        q_pids: (Q,) integer identity of each query.
        g_pids: (G,) integer identity of each gallery entry.
        q_camids: (Q,) integer camera of each query. Pass both camids or neither; without them, nothing is junk. -1 is
            an unknown camera, which differs from every other camera. A value below -1 identifies the image itself, so
            that a query that is also in the gallery does not match itself.
        g_camids: (G,) integer camera of each gallery entry, like `q_camids`.
        distance: (Q, G) distance matrix to rank by instead of embeddings, for example from `rerank`.
        block_size: Number of queries per block. By default, it is chosen to limit memory. It does not affect the
            scores.
        **options: Options listed under Keyword Args.

    Keyword Args:
        metric (str): `"euclidean"` (default) or `"cosine"`, as in `pairwise_distance`.
        normalize (bool): Whether to scale embeddings to unit length first. Default: False.
        protocol (str): One of the protocols above. Default: `"market1501"`.
        ap (str): `"step"` (default) averages the precision at each match. `"trapezoid"` averages it with the precision
            just before each match, as the Market-1501 toolkit does.
        max_rank (int): Length of `Scores.cmc`; may exceed the size of the gallery. Default: 50.
        postprocess (Sequence): Steps applied in order to the embeddings, such as `QueryExpansion`. The last one may be
            a re-ranking step that returns distances, such as `KReciprocal`. Embeddings have unit length if `metric` is
            `"cosine"` or `normalize` is True. Default: no steps.
        verification (bool): Whether to compute the ROC curve, AUC, EER and TPR over all pairs. Default: False.
        camera_pairs (bool): Whether to compute mAP and rank-1 for each pair of cameras. Skipped if a camera is unknown
            or `protocol` is `"centroid"`. Default: False.
        top_k (int): Length of the ranked lists to return; 0 (default) returns none. Skipped if `protocol` is
            `"centroid"`.
        repeats (int): Number of random galleries of `"cuhk03"`. Default: 10.
        seed (int): Random seed of these galleries. Default: 0.

    Returns:
        Averaged scores, per-query results and the optional results that were requested.

    Raises:
        ValueError: If an argument has an invalid shape, dtype or value, an embedding is not finite, or no query has a
            match.

    Example:
        >>> import numpy as np
        >>> from reidlit import evaluate
        >>> query = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> gallery = np.array([[0.9, 0.1], [0.6, 0.5], [0.8, 0.2], [0.5, 0.6]])
        >>> scores = evaluate(query, gallery, [0, 1], [0, 0, 1, 1], q_camids=[0, 0], g_camids=[1, 2, 1, 2])
        >>> round(scores.mAP, 3), scores.rank(1), scores.num_valid
        (0.833, 1.0, 2)
    """
    check_options(options)
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size={block_size} is invalid: must be at least 1, or None for the default.")
    options = DEFAULTS | options
    source, labels = _read_inputs(query, gallery, distance, (q_pids, g_pids, q_camids, g_camids), options)
    source, labels = _postprocess(source, labels, options)
    groups = _apply_protocol(source, labels, options)
    collectors = _rank(groups, _collectors(labels, options), block_size)
    return _scores(collectors, labels, options)


def check_options(options: Options) -> None:
    """Check the options of `evaluate`, so that an invalid one fails before an epoch is spent on embeddings.

    Raises:
        ValueError: If an option is unknown or its value is not allowed.
    """
    unknown = set(options) - set(DEFAULTS)
    if unknown:
        raise ValueError(f"Unknown evaluation options {sorted(unknown)}: choose from {', '.join(DEFAULTS)}.")
    values: dict[str, Any] = {**DEFAULTS, **options}
    for name, choices in (("metric", METRICS), ("protocol", PROTOCOLS), ("ap", AP_FORMULAS)):
        if values[name] not in choices:
            raise ValueError(f"{name}={values[name]!r} is invalid: must be one of {', '.join(choices)}.")
    for name, least in (("max_rank", 1), ("top_k", 0), ("repeats", 1), ("seed", 0)):
        check_integer(name, values[name], least)


def _read_inputs(
    query: ArrayLike | Tensor | None,
    gallery: ArrayLike | Tensor | None,
    distance: ArrayLike | Tensor | None,
    labels: tuple[LabelArray, LabelArray, LabelArray | None, LabelArray | None],
    options: Options,
) -> tuple[Embeddings | Distances, Labels]:
    """Return the embeddings, or the distances if the caller passed them, and the labels."""
    if distance is None:
        embeddings = Embeddings(*as_pair(query, gallery))
        return embeddings, as_label_set(*labels, len(embeddings.query), len(embeddings.gallery))
    remedy = "requires embeddings: pass query and gallery instead of distance."
    if options["postprocess"]:
        raise ValueError(f"postprocess={options['postprocess']!r} {remedy}")
    if options["protocol"] in ("multi_query", "centroid"):
        raise ValueError(f"protocol={options['protocol']!r} {remedy}")
    matrix = distance if isinstance(distance, Tensor) else np.asarray(distance)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"distance has shape {tuple(matrix.shape)}: must be (Q, G) and not empty.")
    distances = MatrixDistances(matrix)
    return distances, as_label_set(*labels, *distances.shape)


def _postprocess(
    source: Embeddings | Distances, labels: Labels, options: Options
) -> tuple[Embeddings | Distances, Labels]:
    """Normalize the embeddings, average the queries of the multi_query protocol, and apply the steps.

    Returns:
        The new embeddings, or the distances that the last step returned, and the labels of the remaining queries.
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
            raise ValueError(
                f"postprocess is invalid: {step!r} follows a re-ranking step, which returns distances. "
                "Put the re-ranking step last."
            )
        result = step(query, gallery)
        if isinstance(result, tuple):
            query, gallery = result
        else:
            distances = result
    return Embeddings(query, gallery) if distances is None else distances, labels


def _apply_protocol(source: Embeddings | Distances, labels: Labels, options: Options) -> Iterator[QueryGroup]:
    """Yield groups of queries with their distances to the gallery that the protocol defines for them."""
    queries, metric, is_centroid = np.arange(len(labels.q_pids)), options["metric"], options["protocol"] == "centroid"
    if not isinstance(source, Embeddings):
        if is_centroid:
            raise ValueError(
                "protocol='centroid' does not support re-ranking: remove the re-ranking step from postprocess, or "
                "choose another protocol."
            )
        yield QueryGroup(queries, source, labels)
    elif not is_centroid:
        yield QueryGroup(queries, EmbeddingDistances(*source, metric), labels)
    else:
        _, g_pids, q_camids, g_camids = labels
        for rows, centroids in centroid_galleries(source.gallery, g_pids, q_camids, g_camids, len(queries)):
            distances = EmbeddingDistances(source.query[rows], centroids.embedding, metric)
            # Centroids exclude the query's camera, so no junk remains.
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
    """Rank all queries tile by tile and pass each tile to the collectors."""
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
    """Average the results over the queries that have a match, and count the queries that have none."""
    scores = collectors.scores.result()
    is_valid = scores.num_matches > 0
    num_valid, num_no_match = int(is_valid.sum()), int((~is_valid).sum())
    if num_valid == 0:
        raise ValueError(
            f"None of the {len(is_valid)} queries has a match in the gallery. Check that q_pids and g_pids use the "
            "same identity numbers. If each identity was seen by one camera only, omit q_camids and g_camids."
        )
    _, single_shot, pairs, cameras, lists = collectors
    shot_ranks = None if single_shot is None else single_shot.result()
    ranks = scores.first_match[:, None] if shot_ranks is None else shot_ranks
    num_absent = int((~np.isin(labels.q_pids, labels.g_pids)).sum())
    return Scores(
        cmc=_cmc(ranks[is_valid], options["max_rank"]),
        # An exact sum does not depend on the order of the queries.
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
    """Compute the CMC (max_rank,) from the 1-based ranks (V, repeats) of the first matches."""
    hits = np.bincount(ranks.reshape(-1).clip(max=max_rank + 1), minlength=max_rank + 2)
    return np.cumsum(hits[1 : max_rank + 1]) / ranks.size
