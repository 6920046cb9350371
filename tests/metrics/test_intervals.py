import numpy as np
import pytest

import reidlit.metrics.intervals
from reidlit.metrics.intervals import interval


def naive(values, weights, level, resamples, seed):
    """Bootstrap one resample at a time, with a different random generator."""
    rng = np.random.RandomState(seed)
    means = []
    for _ in range(resamples):
        resample = [rng.randint(len(values)) for _ in values]
        means.append(sum(values[i] for i in resample) / sum(weights[i] for i in resample))
    means.sort()
    return tuple(np.quantile(means, [(1 - level) / 2, (1 + level) / 2]))


@pytest.mark.parametrize("level", [0.5, 0.95])
@pytest.mark.parametrize("weighted", [False, True])
def test_interval_equals_naive_loop(weighted, level):
    rng = np.random.default_rng(0)
    weights = rng.integers(1, 9, 12).astype(float) if weighted else None
    values = rng.random(12) * (1 if weights is None else weights)
    expected = naive(values, np.ones(12) if weights is None else weights, level, 4000, seed=1)
    np.testing.assert_allclose(interval(values, weights, level, resamples=20_000), expected, atol=0.015)


def test_interval_of_two_values():
    # The mean of two draws from {0, 1} is 0, 1/2 or 1 with probabilities 1/4, 1/2 and 1/4.
    assert interval(np.array([0.0, 1.0]), level=0.6) == (0, 1)
    assert interval(np.array([0.0, 1.0]), level=0.4) == (0.5, 0.5)


@pytest.mark.parametrize("size", [200, 2000])
@pytest.mark.parametrize(("level", "z"), [(0.95, 1.95996), (0.68269, 1.0)])
def test_width_agrees_with_normal_theory(size, level, z):
    values = np.random.default_rng(size).exponential(size=size)
    low, high = interval(values, level=level, resamples=4000)
    error = values.std() / np.sqrt(size)
    assert high - low == pytest.approx(2 * z * error, rel=0.08)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.2 * error)


def test_width_of_ratio_agrees_with_delta_method():
    rng = np.random.default_rng(3)
    weights = rng.integers(1, 20, 500).astype(float)
    values = weights * rng.random(500)
    ratio = values.sum() / weights.sum()
    error = (values - ratio * weights).std() / weights.mean() / np.sqrt(500)
    low, high = interval(values, weights, resamples=4000)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert low < ratio < high


def test_interval_has_nominal_coverage():
    rng = np.random.default_rng(4)
    ends = [interval(rng.random(100), resamples=200, seed=k) for k in range(300)]
    assert 0.9 <= np.mean([low <= 0.5 <= high for low, high in ends]) <= 0.98


def test_equal_weights_do_not_change_interval():
    values = np.random.default_rng(5).random(50)
    assert interval(values, np.ones(50)) == pytest.approx(interval(values), rel=1e-12)
    assert interval(values, np.full(50, 4.0)) == pytest.approx([end / 4 for end in interval(values)], rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_order_of_values_does_not_change_interval(weighted):
    rng = np.random.default_rng(6)
    values = rng.integers(0, 5, 300) / 4  # many ties with different weights
    weights = rng.random(300) if weighted else None
    first = interval(values, weights)
    for _ in range(3):
        order = rng.permutation(300)
        assert interval(values[order], None if weights is None else weights[order]) == first


def test_weights_are_resampled_with_their_values():
    weights = np.arange(1.0, 51)
    low, high = interval(0.25 * weights[::-1], weights[::-1])
    assert (low, high) == pytest.approx((0.25, 0.25))


def test_interval_depends_on_seed():
    values = np.random.default_rng(7).random(100)
    assert interval(values, seed=1) == interval(values, seed=1)
    assert interval(values, seed=1) != interval(values, seed=2)


def test_global_generator_is_not_used():
    values = np.random.default_rng(8).random(100)
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = interval(values)
    assert np.random.get_state()[1].tolist() == expected  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert interval(values) == first


@pytest.mark.parametrize("chunk", [1, 700, 10**6])
def test_chunk_size_does_not_change_interval(chunk, monkeypatch):
    values = np.random.default_rng(9).random(300)
    expected = interval(values, resamples=101)
    monkeypatch.setattr(reidlit.metrics.intervals, "CHUNK", chunk)
    assert interval(values, resamples=101) == expected


def test_inputs_are_not_modified():
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 3.0, 2.0])
    interval(values, weights)
    assert (values.tolist(), weights.tolist()) == ([3, 1, 2], [1, 3, 2])


def test_interval_without_values_or_weight_is_nan():
    assert np.isnan(interval(np.array([]))).all()
    assert np.isnan(interval(np.array([]), np.array([]))).all()
    assert np.isnan(interval(np.zeros(3), np.zeros(3))).all()


def test_resamples_with_zero_weight_are_skipped():
    # A quarter of the resamples contains only the second entry.
    assert interval(np.array([1.0, 0.0]), np.array([2.0, 0.0])) == (0.5, 0.5)


def test_interval_of_single_value_has_zero_width():
    assert interval(np.array([0.7])) == (0.7, 0.7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": np.array([1.0, np.nan])}, "values contains 1 of 2"),
        ({"values": np.array([np.inf])}, "values contains 1 of 1"),
        ({"values": np.ones((2, 2))}, r"values.*\(2, 2\)"),
        ({"values": np.array(1.0)}, r"values.*\(\)"),
        ({"values": np.ones(2), "weights": np.ones(3)}, r"weights.*\(3,\)"),
        ({"values": np.ones(2), "weights": np.array([1, np.nan])}, "weights contains 1 of 2"),
        ({"values": np.ones(2), "weights": np.array([1.0, -1])}, "weights.*-1"),
        ({"values": np.ones(2), "level": 95}, "level=95"),
        ({"values": np.ones(2), "level": 0}, "level=0"),
        ({"values": np.ones(2), "level": float("nan")}, "level=nan"),
        ({"values": np.ones(2), "resamples": 0}, "resamples=0"),
        ({"values": np.array([]), "resamples": 0}, "resamples=0"),
    ],
)
def test_invalid_input_raises(arguments, message):
    with pytest.raises(ValueError, match=message):
        interval(**arguments)
