"""Statistics over runs against scipy, `statistics` and simulation."""

import statistics

import numpy as np
import pytest
from scipy import stats

from reidlit.runs.statistics import run_statistics


@pytest.mark.parametrize("level", [0.5, 0.95])
@pytest.mark.parametrize("n", [2, 3, 20])
def test_interval_equals_t_test(n, level):
    values = np.random.default_rng(n).random(n).tolist()
    result = run_statistics(values, level)
    interval = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert result.n == n
    assert result.mean == pytest.approx(statistics.mean(values))
    assert result.std == pytest.approx(statistics.stdev(values))
    assert result[3:] == pytest.approx((interval.low, interval.high))


def test_interval_has_nominal_coverage():
    samples = np.random.default_rng(0).normal(3, 2, (2000, 4))
    covered = [result.low <= 3 <= result.high for result in map(run_statistics, samples)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_equal_values_have_zero_std():
    assert run_statistics([0.25, 0.25, 0.25]) == (3, 0.25, 0, 0.25, 0.25)


def test_single_run_has_nan_std_and_interval():
    n, mean, *unknown = run_statistics([0.25])
    assert (n, mean) == (1, 0.25)
    assert np.isnan(unknown).all()


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [(([],), "values"), (([[1.0]],), "values"), (([1.0, float("nan")],), "values"), (([1.0, 2.0], 1.0), "level=1.0")],
)
def test_invalid_arguments_raise(arguments, argument):
    with pytest.raises(ValueError, match=argument):
        run_statistics(*arguments)
