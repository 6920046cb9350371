from itertools import pairwise

import numpy as np
import pytest

from reidlit.metrics.verification import roc


def histograms(rng, bins=40, num_positive=60, num_negative=300):
    """Random histograms with bins of uneven width, some empty and some with positive or negative pairs only."""

    def counts(mean, size):
        return np.bincount((rng.normal(mean, 0.1, size).clip(0, 0.99) * bins).astype(int), minlength=bins)

    return np.cumsum(rng.uniform(0.1, 1, bins)), counts(0.35, num_positive), counts(0.6, num_negative)


def rates(upper, positive, negative):
    """(threshold, FPR, TPR) of every threshold, computed from the distances."""
    near, far = np.repeat(upper, positive), np.repeat(upper, negative)
    return [(-np.inf, 0.0, 0.0)] + [(t, np.mean(far <= t), np.mean(near <= t)) for t in upper]


@pytest.fixture(params=range(6))
def case(request):
    return histograms(np.random.default_rng(request.param))


def test_auc_equals_comparison_of_all_pairs(case):
    upper, positive, negative = case
    near, far = np.repeat(upper, positive)[:, None], np.repeat(upper, negative)[None]
    expected = np.mean((near < far) + 0.5 * (near == far))
    result = roc(*case)
    assert result.auc == pytest.approx(expected, rel=1e-14)
    area = np.diff(result.fpr) @ (result.tpr[1:] + result.tpr[:-1]) / 2
    assert area == pytest.approx(expected, rel=1e-12)
    assert (result.num_positive, result.num_negative) == (60, 300)


def test_lookups_equal_search_over_all_thresholds(case):
    result = roc(*case)
    table = rates(*case)
    allowed = [0, 1e-3, 0.01, 0.1, 0.5, 0.999, 1, *(fpr for _, fpr, _ in table)]
    for limit in allowed:
        within = [entry for entry in table if entry[1] <= limit]
        assert result.tpr_at(limit) == max(tpr for *_, tpr in within)
        assert result.threshold_at(limit) == max(threshold for threshold, *_ in within)


def test_curve_covers_all_thresholds(case):
    result = roc(*case)
    table = rates(*case)
    points = list(zip(result.threshold, result.fpr, result.tpr, strict=True))
    assert points[0] == (-np.inf, 0, 0)
    assert points[-1] == (case[0][-1], 1, 1)
    assert set(points) <= set(table)
    assert len(points) < len(table)
    for values in (result.fpr, result.tpr):
        assert (np.diff(values) >= 0).all()
    assert (np.diff(result.threshold) > 0).all()
    # Omitted points are on the vertical line between adjacent points.
    for entry in set(table) - set(points):
        tprs = result.tpr[result.fpr == entry[1]]
        assert tprs.min() <= entry[2] <= tprs.max()


def test_eer_is_interpolated_between_adjacent_thresholds(case):
    result = roc(*case)
    table = rates(*case)
    (_, f0, t0), (_, f1, t1) = next(
        pair for pair in pairwise(table) if pair[0][1] < 1 - pair[0][2] and pair[1][1] >= 1 - pair[1][2]
    )
    fraction = np.linspace(0, 1, 100_001)
    fpr, fnr = f0 + fraction * (f1 - f0), 1 - t0 - fraction * (t1 - t0)
    assert result.eer == pytest.approx(fpr[np.abs(fpr - fnr).argmin()], abs=1e-4)
    gaps = [abs(fpr - (1 - tpr)) for _, fpr, tpr in table[1:]]
    assert result.eer_threshold in case[0]
    index = list(case[0]).index(result.eer_threshold)
    assert gaps[index] == pytest.approx(min(gaps), abs=1e-12)


def test_perfect_separation():
    result = roc(np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([3, 4, 0, 0, 0]), np.array([0, 0, 0, 2, 9]))
    assert (result.auc, result.eer, result.eer_threshold) == (1, 0, 0.2)
    assert result.tpr_at(0) == 1
    assert result.threshold_at(0) == 0.3
    assert result.threshold_at(1) == 0.5


def test_perfectly_inverted_order():
    result = roc(np.array([1.0, 2.0]), np.array([0, 5]), np.array([7, 0]))
    assert (result.auc, result.eer) == (0, 1)
    assert result.tpr_at(0.99) == 0
    assert result.threshold_at(0.99) == -np.inf


@pytest.mark.parametrize("counts", [[5], [1, 2, 3, 4], [4, 0, 0, 1]])
def test_equal_distributions_have_auc_and_eer_of_one_half(counts):
    counts = np.array(counts)
    result = roc(np.arange(1.0, len(counts) + 1), counts, 1000 * counts)
    assert result.auc == 0.5
    assert result.eer == pytest.approx(0.5, abs=1e-15)
    assert 1 <= result.eer_threshold <= len(counts)


def test_hand_computed_curve():
    # Accepted pairs (positive, negative) at each threshold: (1, 0), (2, 1), (2, 2), (4, 4) of (4, 4).
    result = roc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 1, 0, 2]), np.array([0, 1, 1, 2]))
    np.testing.assert_array_equal(result.fpr, [0, 0, 0.25, 0.5, 1])
    np.testing.assert_array_equal(result.tpr, [0, 0.25, 0.5, 0.5, 1])
    np.testing.assert_array_equal(result.threshold, [-np.inf, 1, 2, 3, 4])
    assert result.auc == (4 + 3.5 + 1 + 1) / 16
    assert (result.eer, result.eer_threshold) == (0.5, 3)


def test_vertical_segment_keeps_its_end_points():
    result = roc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 1, 1, 0]), np.array([0, 0, 0, 1]))
    np.testing.assert_array_equal(result.threshold, [-np.inf, 3, 4])
    np.testing.assert_array_equal(result.tpr, [0, 1, 1])


def test_eer_inside_vertical_segment():
    # FPR stays at 0.5 while FNR falls from 1 to 0 in ten steps. The curve keeps the end points only.
    positive, negative = np.array([0, *[1] * 10, 0]), np.array([1, *[0] * 10, 1])
    result = roc(np.arange(12.0), positive, negative)
    assert (result.eer, result.eer_threshold) == (0.5, 5.0)


def test_last_bin_may_be_infinite():
    result = roc(np.array([1.0, np.inf]), np.array([3, 1]), np.array([1, 3]))
    assert result.threshold_at(0.5) == 1
    assert result.threshold_at(1) == np.inf
    assert result.eer == 0.25


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_auc_of_billions_of_pairs_is_exact(dtype):
    rng = np.random.default_rng(0)
    for _ in range(20):
        positive, negative = rng.integers(10**9, 4 * 10**9, (2, 3)).tolist()
        twice_pairs = 2 * sum(positive) * sum(negative)
        assert twice_pairs > 2**63
        twice_correct = sum(p * (negative[i] + 2 * sum(negative[i + 1 :])) for i, p in enumerate(positive))
        assert (
            roc(np.arange(3.0), np.array(positive, dtype), np.array(negative, dtype)).auc == twice_correct / twice_pairs
        )


@pytest.mark.parametrize("dtype", [np.int32, np.uint64])
def test_all_integer_dtypes_give_the_same_curve(dtype, case):
    upper, positive, negative = case
    narrow, wide = roc(upper, positive.astype(dtype), negative.astype(dtype)), roc(*case)
    for actual, expected in zip((*narrow[:-1], *narrow.histogram), (*wide[:-1], *wide.histogram), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_display_histogram_equals_numpy_histogram():
    rng = np.random.default_rng(0)
    upper = np.sort(rng.uniform(0, 5, 5000))
    positive, negative = rng.integers(0, 9, (2, 5000))
    positive[:100] = negative[:100] = 0  # empty bins do not extend the range
    positive[-1] = 1
    edges, *counts = roc(upper, positive, negative).histogram
    assert (edges[0], edges[-1]) == (upper[100], upper[-1])
    np.testing.assert_allclose(np.diff(edges), np.diff(edges)[0])
    for actual, fine_counts in zip(counts, (positive, negative), strict=True):
        expected = np.histogram(upper, edges, weights=fine_counts)[0]
        assert actual.sum() == fine_counts.sum()
        np.testing.assert_allclose(actual, expected, atol=9)  # a distance on an edge may belong to either bin
    assert roc(np.array([1.0, np.inf]), np.array([1, 2]), np.array([3, 4])).histogram.negative.sum() == 7


@pytest.mark.parametrize(("positive", "negative"), [([0, 0], [1, 2]), ([1, 2], [0, 0]), ([0, 0], [0, 0])])
def test_metrics_without_pairs_are_nan(positive, negative):
    result = roc(np.array([1.0, 2.0]), np.array(positive), np.array(negative))
    assert np.isnan([result.auc, result.eer, result.eer_threshold, result.tpr_at(0.5)]).all()
    assert np.isnan(result.tpr).all() == (sum(positive) == 0)
    assert np.isnan(result.fpr).all() == (sum(negative) == 0)
    assert np.isnan(result.threshold_at(0.5)) == (sum(negative) == 0)
    assert (result.num_positive, result.num_negative) == (sum(positive), sum(negative))


@pytest.mark.parametrize("fpr", [-0.1, 1.1, float("nan")])
def test_fpr_out_of_range_raises(fpr, case):
    result = roc(*case)
    for lookup in (result.tpr_at, result.threshold_at):
        with pytest.raises(ValueError, match=f"fpr={fpr}"):
            lookup(fpr)


@pytest.mark.parametrize(
    ("upper", "positive", "negative", "message"),
    [
        ([], [], [], r"upper.*\(0,\)"),
        ([1.0, 2.0], [1], [1, 2], r"\(2,\), \(1,\) and \(2,\)"),
        ([[1.0]], [[1]], [[1]], r"\(1, 1\)"),
        ([2.0, 1.0], [1, 1], [1, 1], "upper"),
        ([1.0, 1.0], [1, 1], [1, 1], "upper"),
        ([1.0, np.nan], [1, 1], [1, 1], "upper"),
        ([np.inf, np.inf], [1, 1], [1, 1], "upper"),
        ([np.nan], [1], [1], "upper"),
        ([1.0], [-1], [1], "positive.*int64.*-1"),
        ([1.0], [1], [0.5], "negative.*float64"),
    ],
)
def test_invalid_histograms_raise(upper, positive, negative, message):
    with pytest.raises(ValueError, match=message):
        roc(np.array(upper), np.array(positive), np.array(negative))
