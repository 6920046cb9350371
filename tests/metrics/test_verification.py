from itertools import pairwise

import numpy as np
import pytest

from reidlit.metrics.verification import roc


def histograms(rng, bins=40, num_positive=60, num_negative=300):
    """Bins of uneven width, some empty and some with pairs of one kind only."""

    def counts(mean, size):
        return np.bincount((rng.normal(mean, 0.1, size).clip(0, 0.99) * bins).astype(int), minlength=bins)

    return np.cumsum(rng.uniform(0.1, 1, bins)), counts(0.35, num_positive), counts(0.6, num_negative)


def rates(upper, positive, negative):
    """(threshold, FPR, TPR) of every threshold there is, from the distances themselves."""
    near, far = np.repeat(upper, positive), np.repeat(upper, negative)
    return [(-np.inf, 0.0, 0.0)] + [(t, np.mean(far <= t), np.mean(near <= t)) for t in upper]


@pytest.fixture(params=range(6))
def case(request):
    return histograms(np.random.default_rng(request.param))


def test_auc_is_what_comparing_all_pairs_gives(case):
    upper, positive, negative = case
    near, far = np.repeat(upper, positive)[:, None], np.repeat(upper, negative)[None]
    expected = np.mean((near < far) + 0.5 * (near == far))
    result = roc(*case)
    assert result.auc == pytest.approx(expected, rel=1e-14)
    area = np.diff(result.fpr) @ (result.tpr[1:] + result.tpr[:-1]) / 2
    assert area == pytest.approx(expected, rel=1e-12)
    assert (result.num_positive, result.num_negative) == (60, 300)


def test_lookups_are_what_trying_all_thresholds_gives(case):
    result = roc(*case)
    table = rates(*case)
    allowed = [0, 1e-3, 0.01, 0.1, 0.5, 0.999, 1, *(fpr for _, fpr, _ in table)]
    for limit in allowed:
        within = [entry for entry in table if entry[1] <= limit]
        assert result.tpr_at(limit) == max(tpr for *_, tpr in within)
        assert result.threshold_at(limit) == max(threshold for threshold, *_ in within)


def test_the_curve_runs_through_all_thresholds(case):
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
    # What was left out lies on the vertical line between its neighbours.
    for entry in set(table) - set(points):
        tprs = result.tpr[result.fpr == entry[1]]
        assert tprs.min() <= entry[2] <= tprs.max()


def test_eer_is_on_the_line_between_the_thresholds_around_it(case):
    result = roc(*case)
    table = rates(*case)
    (_, f0, t0), (_, f1, t1) = next(
        pair for pair in pairwise(table) if pair[0][1] < 1 - pair[0][2] and pair[1][1] >= 1 - pair[1][2]
    )
    share = np.linspace(0, 1, 100_001)
    fpr, fnr = f0 + share * (f1 - f0), 1 - t0 - share * (t1 - t0)
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


def test_perfectly_wrong():
    result = roc(np.array([1.0, 2.0]), np.array([0, 5]), np.array([7, 0]))
    assert (result.auc, result.eer) == (0, 1)
    assert result.tpr_at(0.99) == 0
    assert result.threshold_at(0.99) == -np.inf


@pytest.mark.parametrize("counts", [[5], [1, 2, 3, 4], [4, 0, 0, 1]])
def test_equal_distributions_are_a_coin_toss(counts):
    counts = np.array(counts)
    result = roc(np.arange(1.0, len(counts) + 1), counts, 1000 * counts)
    assert result.auc == 0.5
    assert result.eer == pytest.approx(0.5, abs=1e-15)
    assert 1 <= result.eer_threshold <= len(counts)


def test_a_known_curve():
    # Accepted so far: (1, 0), (2, 1), (2, 2), (4, 4) of 4 positive and 4 negative pairs.
    result = roc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 1, 0, 2]), np.array([0, 1, 1, 2]))
    np.testing.assert_array_equal(result.fpr, [0, 0, 0.25, 0.5, 1])
    np.testing.assert_array_equal(result.tpr, [0, 0.25, 0.5, 0.5, 1])
    np.testing.assert_array_equal(result.threshold, [-np.inf, 1, 2, 3, 4])
    assert result.auc == (4 + 3.5 + 1 + 1) / 16
    assert (result.eer, result.eer_threshold) == (0.5, 3)


def test_a_vertical_run_keeps_its_ends():
    result = roc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 1, 1, 0]), np.array([0, 0, 0, 1]))
    np.testing.assert_array_equal(result.threshold, [-np.inf, 3, 4])
    np.testing.assert_array_equal(result.tpr, [0, 1, 1])


def test_eer_inside_a_vertical_run():
    # FPR stays 0.5 while FNR falls from 1 to 0 in tenths, of which the curve keeps the ends.
    positive, negative = np.array([0, *[1] * 10, 0]), np.array([1, *[0] * 10, 1])
    result = roc(np.arange(12.0), positive, negative)
    assert (result.eer, result.eer_threshold) == (0.5, 5.0)


def test_the_last_bin_may_be_unbounded():
    result = roc(np.array([1.0, np.inf]), np.array([3, 1]), np.array([1, 3]))
    assert result.threshold_at(0.5) == 1
    assert result.threshold_at(1) == np.inf
    assert result.eer == 0.25


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_counts_in_the_billions_are_exact(dtype):
    rng = np.random.default_rng(0)
    for _ in range(20):
        positive, negative = rng.integers(10**9, 4 * 10**9, (2, 3)).tolist()
        pairs_twice = 2 * sum(positive) * sum(negative)
        assert pairs_twice > 2**63
        right_twice = sum(p * (negative[i] + 2 * sum(negative[i + 1 :])) for i, p in enumerate(positive))
        assert (
            roc(np.arange(3.0), np.array(positive, dtype), np.array(negative, dtype)).auc == right_twice / pairs_twice
        )


@pytest.mark.parametrize("dtype", [np.int32, np.uint64])
def test_any_integers_count(dtype, case):
    upper, positive, negative = case
    narrow, wide = roc(upper, positive.astype(dtype), negative.astype(dtype)), roc(*case)
    for found, expected in zip((*narrow[:-1], *narrow.histogram), (*wide[:-1], *wide.histogram), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_coarse_histogram_counts_every_pair_where_it_belongs():
    rng = np.random.default_rng(0)
    upper = np.sort(rng.uniform(0, 5, 5000))
    positive, negative = rng.integers(0, 9, (2, 5000))
    positive[:100] = negative[:100] = 0  # empty bins do not stretch it
    positive[-1] = 1
    edges, *counts = roc(upper, positive, negative).histogram
    assert (edges[0], edges[-1]) == (upper[100], upper[-1])
    np.testing.assert_allclose(np.diff(edges), np.diff(edges)[0])
    for found, given in zip(counts, (positive, negative), strict=True):
        expected = np.histogram(upper, edges, weights=given)[0]
        assert found.sum() == given.sum()
        np.testing.assert_allclose(found, expected, atol=9)  # a distance on an edge may go to either side
    assert roc(np.array([1.0, np.inf]), np.array([1, 2]), np.array([3, 4])).histogram.negative.sum() == 7


@pytest.mark.parametrize(("positive", "negative"), [([0, 0], [1, 2]), ([1, 2], [0, 0]), ([0, 0], [0, 0])])
def test_without_pairs_the_figures_are_nan(positive, negative):
    result = roc(np.array([1.0, 2.0]), np.array(positive), np.array(negative))
    assert np.isnan([result.auc, result.eer, result.eer_threshold, result.tpr_at(0.5)]).all()
    assert np.isnan(result.tpr).all() == (sum(positive) == 0)
    assert np.isnan(result.fpr).all() == (sum(negative) == 0)
    assert np.isnan(result.threshold_at(0.5)) == (sum(negative) == 0)
    assert (result.num_positive, result.num_negative) == (sum(positive), sum(negative))


@pytest.mark.parametrize("fpr", [-0.1, 1.1, float("nan")])
def test_a_rate_is_from_0_to_1(fpr, case):
    result = roc(*case)
    for lookup in (result.tpr_at, result.threshold_at):
        with pytest.raises(ValueError, match=f"fpr={fpr} must be from 0 to 1"):
            lookup(fpr)


@pytest.mark.parametrize(
    ("upper", "positive", "negative", "message"),
    [
        ([], [], [], "at least one bin"),
        ([1.0, 2.0], [1], [1, 2], r"shapes \(2,\), \(1,\) and \(2,\)"),
        ([[1.0]], [[1]], [[1]], r"must be \(B,\)"),
        ([2.0, 1.0], [1, 1], [1, 1], "ascend"),
        ([1.0, 1.0], [1, 1], [1, 1], "ascend"),
        ([1.0, np.nan], [1, 1], [1, 1], "ascend"),
        ([np.inf, np.inf], [1, 1], [1, 1], "ascend"),
        ([np.nan], [1], [1], "NaN"),
        ([1.0], [-1], [1], "positive must hold counts from 0, got int64 from -1"),
        ([1.0], [1], [0.5], "negative must hold counts from 0, got float64"),
    ],
)
def test_bad_histograms_are_refused(upper, positive, negative, message):
    with pytest.raises(ValueError, match=message):
        roc(np.array(upper), np.array(positive), np.array(negative))
