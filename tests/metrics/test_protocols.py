"""Protocols and optional scores, each against its definition in naive loops."""

import numpy as np
import pytest
import torch

from reidlit.metrics import KReciprocal, QueryExpansion, evaluate, pairwise_distance
from reidlit.metrics.verification import FPRS

EXTRAS = {"verification": True, "camera_pairs": True, "top_k": 7}


def problem(seed=0, num_query=40, num_gallery=200, pids=12, cameras=3, dim=6):
    """Random labels, and embeddings of small integers, whose distances are exact and have ties."""
    rng = np.random.default_rng(seed)
    embeddings = [rng.integers(-2, 3, (n, dim)).astype(np.float32) for n in (num_query, num_gallery)]
    labels = [rng.integers(0, high, n) for high in (pids, cameras) for n in (num_query, num_gallery)]
    return *embeddings, *labels


def distances(query, gallery):
    return ((query[:, None] - gallery[None]) ** 2).sum(-1)


def ranked(row, q_pid, q_camid, g_pids, g_camids):
    """Gallery indices without junk in the order of a stable sort."""
    return [j for j in np.argsort(row, kind="stable") if g_pids[j] != q_pid or g_camids[j] != q_camid]


def assert_same(a, b):
    """Assert that two scores or their fields are bitwise equal."""
    assert type(a) is type(b)
    if isinstance(a, tuple):
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        np.testing.assert_array_equal(a, b)


def test_trapezoid_ap_averages_precision_before_and_at_each_match():
    query, gallery, q_pids, g_pids, q_camids, g_camids = data = problem()
    expected = []
    for i, row in enumerate(distances(query, gallery)):
        order = ranked(row, q_pids[i], q_camids[i], g_pids, g_camids)
        hits = np.array([g_pids[j] == q_pids[i] for j in order])
        precision = np.concatenate([[1.0], np.cumsum(hits) / np.arange(1, len(hits) + 1)])
        recall = np.concatenate([[0.0], np.cumsum(hits) / max(hits.sum(), 1)])
        expected.append(np.sum(np.diff(recall) * (precision[1:] + precision[:-1]) / 2) if hits.any() else np.nan)
    scores = evaluate(*data, ap="trapezoid")
    np.testing.assert_allclose(scores.ap, expected, atol=1e-12)
    assert scores.mAP != evaluate(*data).mAP


def test_cuhk03_averages_cmc_over_single_shot_galleries():
    query, gallery, q_pids, g_pids, q_camids, g_camids = data = problem(1)
    scores = evaluate(*data, protocol="cuhk03", repeats=4, seed=5)
    generator = np.random.default_rng(5)
    first = []
    for _ in range(4):
        order = generator.permutation(len(g_pids))
        ranks = []
        for i, row in enumerate(distances(query, gallery)):
            allowed = set(ranked(row, q_pids[i], q_camids[i], g_pids, g_camids))
            kept = {}
            for j in order:
                if j in allowed:
                    kept.setdefault(g_pids[j], j)
            hits = [g_pids[j] == q_pids[i] for j in sorted(kept.values(), key=lambda j: (row[j], j))]
            ranks.append(hits.index(True) + 1 if True in hits else 0)
        first.append(ranks)
    np.testing.assert_array_equal(scores.shot_ranks, np.transpose(first))
    valid = scores.num_matches > 0
    expected = [(scores.shot_ranks[valid] <= k).mean() for k in range(1, 51)]
    np.testing.assert_allclose(scores.cmc, expected, atol=1e-12)
    assert [scores.rank(k) for k in (1, 5)] == pytest.approx([expected[0], expected[4]])
    plain = evaluate(*data)
    assert (scores.mAP, scores.mINP) == (plain.mAP, plain.mINP)  # these use the complete gallery


def test_cuhk03_galleries_depend_on_seed_only():
    data = problem(2)
    np.random.seed(7)  # noqa: NPY002  # the global generator, which must not be used
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    scores = evaluate(*data, protocol="cuhk03")
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    assert scores.shot_ranks.shape == (40, 10)
    assert_same(scores, evaluate(*data, protocol="cuhk03", block_size=3))
    assert (scores.shot_ranks != evaluate(*data, protocol="cuhk03", seed=1).shot_ranks).any()


def test_multi_query_averages_queries_of_identity_and_camera():
    query, gallery, q_pids, g_pids, q_camids, g_camids = problem(3)
    labels = sorted({(int(p), int(c)) for p, c in zip(q_pids, q_camids, strict=True)})
    pooled = [query[(q_pids == p) & (q_camids == c)].mean(0, dtype=np.float64) for p, c in labels]
    pids, camids = np.transpose(labels)
    expected = evaluate(np.stack(pooled), gallery, pids, g_pids, camids, g_camids)
    scores = evaluate(query, gallery, q_pids, g_pids, q_camids, g_camids, protocol="multi_query")
    assert_same(scores, expected)
    assert scores.num_queries == len(labels) < len(query)
    without_cameras = evaluate(query, gallery, q_pids, g_pids, protocol="multi_query")
    assert without_cameras.num_queries == len(set(q_pids.tolist()))


def test_centroid_averages_identities_without_the_camera_of_the_query():
    query, gallery, q_pids, g_pids, q_camids, g_camids = problem(4)
    scores = evaluate(query, gallery, q_pids, g_pids, q_camids, g_camids, protocol="centroid", **EXTRAS)
    assert scores.camera_pairs is scores.nearest is None
    for i, (pid, camid) in enumerate(zip(q_pids, q_camids, strict=True)):
        others = g_camids != camid
        pids = np.unique(g_pids[others])
        centroids = np.stack([gallery[others & (g_pids == p)].mean(0, dtype=np.float64) for p in pids])
        order = pids[np.argsort(((query[i] - centroids) ** 2).sum(1), kind="stable")]
        assert scores.first_match[i] == order.tolist().index(pid) + 1
        assert scores.num_matches[i] == 1
    np.testing.assert_allclose(scores.ap, 1 / scores.first_match)
    assert scores.verification.curve.num_positive == 40
    without = evaluate(query, gallery, q_pids, g_pids, protocol="centroid")
    assert without.num_valid == 40
    assert not without.has_cameras


def test_centroid_query_without_other_cameras_has_no_match():
    scores = evaluate(np.eye(2), np.eye(2), [0, 0], [0, 0], [1, 2], [1, 1], protocol="centroid")
    assert scores.num_matches.tolist() == [0, 1]
    assert (scores.num_valid, scores.num_absent, scores.num_same_camera) == (1, 0, 1)


def test_verification_counts_all_pairs_except_junk():
    query, gallery, q_pids, g_pids, q_camids, g_camids = data = problem(5)
    same = q_pids[:, None] == g_pids[None]
    junk = same & (q_camids[:, None] == g_camids[None])
    distance = distances(query, gallery)
    positive, negative = distance[same & ~junk], distance[~same]
    verification = evaluate(*data, verification=True).verification
    curve = verification.curve
    assert (curve.num_positive, curve.num_negative) == (len(positive), len(negative))
    closer = (positive[:, None] < negative[None]).mean() + (positive[:, None] == negative[None]).mean() / 2
    assert curve.auc == pytest.approx(closer, abs=1e-12)
    for fpr in (0, 1e-3, 1e-2, 0.3, 1):
        accepted = [(positive <= t).mean() for t in (-1, *np.unique(distance)) if (negative <= t).mean() <= fpr]
        assert curve.tpr_at(fpr) == pytest.approx(max(accepted))
    threshold = curve.threshold_at(0.01)
    assert (negative <= threshold).mean() <= 0.01
    matches = evaluate(*data).num_matches
    assert np.nansum(verification.above * matches) / matches.sum() == pytest.approx(curve.auc)
    accepted = verification.accepted.sum(axis=0) / matches.sum()
    assert accepted == pytest.approx([curve.tpr_at(fpr) for fpr in FPRS])


def test_camera_pairs_equal_separate_evaluations():
    query, gallery, q_pids, g_pids, q_camids, g_camids = problem(6, pids=25)
    q_camids, g_camids = q_camids * 10 + 2, g_camids * 10 + 2  # not consecutive
    pairs = evaluate(query, gallery, q_pids, g_pids, q_camids, g_camids, camera_pairs=True).camera_pairs
    assert pairs.q_camids.tolist() == pairs.g_camids.tolist() == [2, 12, 22]
    for a, q_camera in enumerate(pairs.q_camids):
        for b, g_camera in enumerate(pairs.g_camids):
            q, g = q_camids == q_camera, g_camids == g_camera
            if a == b:
                assert pairs.num_queries[a, b] == 0
                assert np.isnan(pairs.mAP[a, b])
                assert np.isnan(pairs.rank1[a, b])
            else:
                separate = evaluate(query[q], gallery[g], q_pids[q], g_pids[g], q_camids[q], g_camids[g])
                assert pairs.num_queries[a, b] == separate.num_valid
                assert pairs.mAP[a, b] == pytest.approx(separate.mAP, abs=1e-12)
                assert pairs.rank1[a, b] == pytest.approx(separate.rank(1), abs=1e-12)


def test_ranked_lists_exclude_junk():
    query, gallery, q_pids, g_pids, q_camids, g_camids = data = problem(7)
    lists = evaluate(*data, top_k=9).nearest
    for i, row in enumerate(distances(query, gallery)):
        expected = ranked(row, q_pids[i], q_camids[i], g_pids, g_camids)[:9]
        assert lists.indices[i].tolist() == expected
        assert lists.distance[i].tolist() == row[expected].tolist()
    assert evaluate(*data, top_k=1000).nearest.indices.shape == (40, 200)


def test_queries_without_match_are_counted_by_reason():
    scores = evaluate(np.eye(4), np.eye(4), [0, 1, 2, 9], [0, 1, 2, 3], [0, 0, 0, 0], [0, 1, 1, 1])
    assert (scores.num_valid, scores.num_no_match, scores.num_absent, scores.num_same_camera) == (2, 2, 1, 1)
    assert scores.has_cameras
    scores = evaluate(np.eye(4), np.eye(4), [0, 1, 2, 9], [0, 1, 2, 3], camera_pairs=True)
    assert scores.camera_pairs is None
    assert (scores.num_valid, scores.num_absent, scores.num_same_camera) == (3, 1, 0)
    assert not scores.has_cameras


def test_query_in_gallery_does_not_match_itself_without_cameras():
    _, gallery, _, g_pids, *_ = problem(5)
    images = -2 - np.arange(len(gallery))
    scores = evaluate(gallery, gallery, g_pids, g_pids, images, images, camera_pairs=True, top_k=3)
    assert not scores.has_cameras
    assert scores.camera_pairs is None
    for i, row in enumerate(distances(gallery, gallery)):
        order = [j for j in np.argsort(row, kind="stable") if j != i]
        hits = [rank for rank, j in enumerate(order, 1) if g_pids[j] == g_pids[i]]
        assert scores.nearest.indices[i].tolist() == order[:3]
        assert scores.num_matches[i] == len(hits)
        if hits:
            assert scores.ap[i] == pytest.approx(np.mean([n / rank for n, rank in enumerate(hits, 1)]), abs=1e-9)


def test_unknown_cameras_create_no_junk():
    query, gallery, q_pids, g_pids, *_ = problem(6)
    without = evaluate(query, gallery, q_pids, g_pids)
    unknown = evaluate(query, gallery, q_pids, g_pids, np.full(len(query), -1), np.full(len(gallery), -1))
    assert (unknown.mAP, unknown.has_cameras) == (without.mAP, False)
    mixed = np.where(np.arange(len(gallery)) % 2, 3, -1)
    scores = evaluate(query, gallery, q_pids, g_pids, np.full(len(query), -1), mixed)
    assert (scores.mAP, scores.has_cameras) == (without.mAP, True)


@pytest.mark.parametrize("protocol", ["market1501", "cuhk03"])
def test_block_size_and_query_order_do_not_change_scores(protocol):
    rng = np.random.default_rng(8)
    query, gallery, *labels = problem(8)
    query, gallery = (x + rng.normal(size=x.shape).astype(np.float32) for x in (query, gallery))
    options = EXTRAS | {"protocol": protocol}
    expected = evaluate(query, gallery, *labels, **options)
    for size in (1, 3, 40):
        assert_same(evaluate(query, gallery, *labels, **options, block_size=size), expected)
    order = rng.permutation(len(query))
    q_pids, g_pids, q_camids, g_camids = labels
    shuffled = evaluate(query[order], gallery, q_pids[order], g_pids, q_camids[order], g_camids, **options)
    for name in ("cmc", "mAP", "mINP", "camera_pairs"):
        assert_same(getattr(shuffled, name), getattr(expected, name))
    assert_same(shuffled.verification.curve, expected.verification.curve)
    assert_same(shuffled.ap, expected.ap[order])
    assert_same(shuffled.nearest.indices, expected.nearest.indices[order])
    for name, bounds in expected.intervals().items():
        assert shuffled.intervals()[name] == pytest.approx(bounds, abs=1e-12)


def test_intervals_contain_metrics_and_shrink_with_more_queries():
    few = evaluate(*problem(9, num_query=40), verification=True)
    many = evaluate(*problem(9, num_query=4000), verification=True)
    for scores in (few, many):
        for name, (low, high) in scores.intervals().items():
            assert low <= scores.as_dict()[name] <= high, name
    assert set(few.intervals()) == {key for key in few.as_dict() if key != "EER" and not key.startswith("num_")}
    width = [np.subtract(*scores.intervals()["mAP"][::-1]) for scores in (few, many)]
    assert 5 < width[0] / width[1] < 20  # about the square root of 100
    narrow = few.intervals(level=0.5)["mAP"]
    assert few.intervals()["mAP"][0] < narrow[0] < narrow[1] < few.intervals()["mAP"][1]


def test_postprocessing_steps_are_applied_in_order():
    query, gallery, *labels = problem(10)
    expansion = QueryExpansion(k=2, expand_gallery=True)
    expected = evaluate(*expansion(*map(torch.from_numpy, (query, gallery))), *labels)
    assert_same(evaluate(query, gallery, *labels, postprocess=[expansion]), expected)
    twice = evaluate(query, gallery, *labels, postprocess=[expansion, expansion])
    assert twice.mAP != expected.mAP
    assert evaluate(query, gallery, *labels, postprocess=[expansion, KReciprocal(k1=5)]).mAP != twice.mAP


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ap": "interpolated"}, "ap='interpolated'.*step, trapezoid"),
        ({"repeats": 0}, "repeats=0"),
        ({"top_k": -1}, "top_k=-1"),
        ({"top_k": 2.5}, r"top_k=2\.5"),
        ({"rerank": True}, r"\['rerank'\].*metric"),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*problem(), **options)


def test_protocols_that_average_embeddings_reject_distance_matrix():
    query, gallery, q_pids, g_pids, *_ = problem()
    distance = pairwise_distance(torch.from_numpy(query), torch.from_numpy(gallery))
    for options in ({"protocol": "centroid"}, {"protocol": "multi_query"}):
        with pytest.raises(ValueError, match=f"protocol={options['protocol']!r}.*distance"):
            evaluate(None, None, q_pids, g_pids, distance=distance, **options)
