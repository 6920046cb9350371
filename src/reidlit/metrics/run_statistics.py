"""Mean and spread of a figure over several runs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Spread(NamedTuple):
    """A figure over several runs, in the unit of its values.

    Attributes:
        n: How many runs.
        mean: Their mean.
        std: Standard deviation of a run, with n - 1 below; NaN of a single run.
        low: Lower end of the interval of the mean; NaN of a single run.
        high: Upper end.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float


def spread(values: Sequence[float], level: float = 0.95) -> Spread:
    """Mean, standard deviation, and Student's interval of the mean.

    The interval takes the runs for independent draws from a normal distribution. It is not cut off at 0 and 1, where a
    fraction ends: an interval that reaches beyond tells that the runs are too few.

    Source: Student, "The Probable Error of a Mean", Biometrika 1908.

    Args:
        values: (N,) finite, from one on.
        level: Probability that the interval holds the true mean, between 0 and 1.

    Raises:
        ValueError: An argument does not fit.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"values={values} must be (N,) finite numbers, at least one")
    if not 0 < level < 1:
        raise ValueError(f"level={level} must be between 0 and 1, like 0.95")
    n, mean = array.size, float(array.mean())
    if n == 1:
        return Spread(1, mean, float("nan"), float("nan"), float("nan"))
    std = float(array.std(ddof=1))
    # Not stats.t.interval, which gives NaN where all values are the same.
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * std / n**0.5
    return Spread(n, mean, std, mean - half, mean + half)
