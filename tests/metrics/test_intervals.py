import numpy as np
import pytest

import reidlit.metrics.intervals
from reidlit.metrics.intervals import interval


def naive(values, weights, level, resamples, seed):
    """One resample after the other, with a generator of another kind."""
    rng = np.random.RandomState(seed)
    figures = []
    for _ in range(resamples):
        drawn = [rng.randint(len(values)) for _ in values]
        figures.append(sum(values[i] for i in drawn) / sum(weights[i] for i in drawn))
    figures.sort()
    return tuple(np.quantile(figures, [(1 - level) / 2, (1 + level) / 2]))


@pytest.mark.parametrize("level", [0.5, 0.95])
@pytest.mark.parametrize("weighted", [False, True])
def test_is_what_a_plain_loop_gives(weighted, level):
    rng = np.random.default_rng(0)
    weights = rng.integers(1, 9, 12).astype(float) if weighted else None
    values = rng.random(12) * (1 if weights is None else weights)
    expected = naive(values, np.ones(12) if weights is None else weights, level, 4000, seed=1)
    np.testing.assert_allclose(interval(values, weights, level, resamples=20_000), expected, atol=0.015)


def test_all_resamples_of_two_values_are_known():
    # The mean of two draws from {0, 1} is 0, 1/2 or 1 with odds of 1 : 2 : 1.
    assert interval(np.array([0.0, 1.0]), level=0.6) == (0, 1)
    assert interval(np.array([0.0, 1.0]), level=0.4) == (0.5, 0.5)


@pytest.mark.parametrize("size", [200, 2000])
@pytest.mark.parametrize(("level", "z"), [(0.95, 1.95996), (0.68269, 1.0)])
def test_width_is_that_of_normal_theory(size, level, z):
    values = np.random.default_rng(size).exponential(size=size)
    low, high = interval(values, level=level, resamples=4000)
    error = values.std() / np.sqrt(size)
    assert high - low == pytest.approx(2 * z * error, rel=0.08)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.2 * error)


def test_width_of_a_ratio_is_that_of_the_delta_method():
    rng = np.random.default_rng(3)
    weights = rng.integers(1, 20, 500).astype(float)
    values = weights * rng.random(500)
    ratio = values.sum() / weights.sum()
    error = (values - ratio * weights).std() / weights.mean() / np.sqrt(500)
    low, high = interval(values, weights, resamples=4000)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert low < ratio < high


def test_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(4)
    ends = [interval(rng.random(100), resamples=200, seed=k) for k in range(300)]
    assert 0.9 <= np.mean([low <= 0.5 <= high for low, high in ends]) <= 0.98


def test_equal_weights_change_nothing():
    values = np.random.default_rng(5).random(50)
    assert interval(values, np.ones(50)) == pytest.approx(interval(values), rel=1e-12)
    assert interval(values, np.full(50, 4.0)) == pytest.approx([end / 4 for end in interval(values)], rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_order_does_not_matter(weighted):
    rng = np.random.default_rng(6)
    values = rng.integers(0, 5, 300) / 4  # many ties, which the weights tell apart
    weights = rng.random(300) if weighted else None
    first = interval(values, weights)
    for _ in range(3):
        order = rng.permutation(300)
        assert interval(values[order], None if weights is None else weights[order]) == first


def test_weights_stay_with_their_values():
    weights = np.arange(1.0, 51)
    low, high = interval(0.25 * weights[::-1], weights[::-1])
    assert (low, high) == pytest.approx((0.25, 0.25))


def test_the_seed_decides():
    values = np.random.default_rng(7).random(100)
    assert interval(values, seed=1) == interval(values, seed=1)
    assert interval(values, seed=1) != interval(values, seed=2)


def test_the_global_generator_is_neither_used_nor_touched():
    values = np.random.default_rng(8).random(100)
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = interval(values)
    assert np.random.get_state()[1].tolist() == expected  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert interval(values) == first


@pytest.mark.parametrize("chunk", [1, 700, 10**6])
def test_chunks_change_nothing(chunk, monkeypatch):
    values = np.random.default_rng(9).random(300)
    expected = interval(values, resamples=101)
    monkeypatch.setattr(reidlit.metrics.intervals, "CHUNK", chunk)
    assert interval(values, resamples=101) == expected


def test_the_callers_arrays_stay_as_they_are():
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 3.0, 2.0])
    interval(values, weights)
    assert (values.tolist(), weights.tolist()) == ([3, 1, 2], [1, 3, 2])


def test_without_values_or_weight_there_is_no_interval():
    assert np.isnan(interval(np.array([]))).all()
    assert np.isnan(interval(np.array([]), np.array([]))).all()
    assert np.isnan(interval(np.zeros(3), np.zeros(3))).all()


def test_resamples_without_weight_are_left_out():
    # A quarter of the resamples draws the second entry twice.
    assert interval(np.array([1.0, 0.0]), np.array([2.0, 0.0])) == (0.5, 0.5)


def test_one_value_is_certain():
    assert interval(np.array([0.7])) == (0.7, 0.7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": np.array([1.0, np.nan])}, "values holds 1 of 2 entries that are NaN or infinite"),
        ({"values": np.array([np.inf])}, "values holds 1 of 1"),
        ({"values": np.ones((2, 2))}, r"values has shape \(2, 2\)"),
        ({"values": np.array(1.0)}, r"values has shape \(\)"),
        ({"values": np.ones(2), "weights": np.ones(3)}, r"weights has shape \(3,\)"),
        ({"values": np.ones(2), "weights": np.array([1, np.nan])}, "weights holds 1 of 2"),
        ({"values": np.ones(2), "weights": np.array([1.0, -1])}, "weights must not be negative, got -1"),
        ({"values": np.ones(2), "level": 95}, "level=95 must be between 0 and 1"),
        ({"values": np.ones(2), "level": 0}, "level=0 must"),
        ({"values": np.ones(2), "level": float("nan")}, "level=nan must"),
        ({"values": np.ones(2), "resamples": 0}, "resamples=0 must be at least 1"),
        ({"values": np.array([]), "resamples": 0}, "resamples=0 must be at least 1"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        interval(**arguments)
