"""Mean, standard deviation and confidence interval of a metric over several runs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class RunStatistics(NamedTuple):
    """Statistics of a metric over several runs, in the unit of its values.

    Attributes:
        n: Number of runs.
        mean: Mean over the runs.
        std: Sample standard deviation (divided by n - 1); NaN for a single run.
        low: Lower end of the confidence interval of the mean; NaN for a single run.
        high: Upper end of the confidence interval; NaN for a single run.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float


def run_statistics(values: Sequence[float], level: float = 0.95) -> RunStatistics:
    """Compute the mean, the standard deviation and Student's confidence interval of the mean.

    The interval assumes independent, normally distributed runs. It is not clipped to the range of a fraction: an
    interval that exceeds 0 or 1 indicates too few runs.

    Source: Student, "The Probable Error of a Mean", Biometrika 1908.

    Args:
        values: (N,) finite values, at least one.
        level: Confidence level, between 0 and 1.

    Raises:
        ValueError: If `values` is empty or not finite, or `level` is out of range.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"values={values} is invalid: must be at least one finite number.")
    if not 0 < level < 1:
        raise ValueError(f"level={level} is invalid: must be between 0 and 1, for example 0.95.")
    n, mean = array.size, float(array.mean())
    if n == 1:
        return RunStatistics(1, mean, float("nan"), float("nan"), float("nan"))
    std = float(array.std(ddof=1))
    # stats.t.interval returns NaN if all values are equal.
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * std / n**0.5
    return RunStatistics(n, mean, std, mean - half, mean + half)
