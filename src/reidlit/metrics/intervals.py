"""Bootstrap confidence intervals of averaged metrics."""

import numpy as np

from reidlit.metrics._ranking.types import Floats

# Number of random indices per chunk: a chunk that fits the processor cache is faster than all resamples at once.
CHUNK = 2**17


def interval(
    values: Floats, weights: Floats | None = None, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Compute the percentile bootstrap interval of the mean of `values`, or of `sum(values) / sum(weights)`.

    Each resample draws N entries with replacement, each with its weight. For a metric that is averaged over pairs, pass
    one entry per query: the sum over its pairs as the value and their number as the weight. The interval describes the
    variation over queries only; gallery and model are fixed.

    The result does not depend on the order of the values or on NumPy's global generator.

    Source: Bradley Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 1979.

    Args:
        values: (N,) finite values.
        weights: (N,) finite non-negative weights. Resamples with a total weight of 0 are skipped.
        level: Confidence level, between 0 and 1.
        resamples: Number of bootstrap resamples, at least 1.
        seed: Random seed, at least 0.

    Returns:
        Lower and upper bound; NaN if there are no values or all weights are 0.

    Raises:
        ValueError: If an argument has an invalid shape or value.
    """
    _check(values, weights, level, resamples)
    size = len(values)
    if size == 0:
        return float("nan"), float("nan")
    order = np.argsort(values) if weights is None else np.lexsort((weights, values))
    values, weights = values[order], None if weights is None else weights[order]

    # scipy.stats.bootstrap returns the same intervals within random error, but takes 1.2 to 10 times as long and does
    # not support a single value or resamples with zero weight.
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // size)
    means = []
    for start in range(0, resamples, rows):
        indices = rng.integers(size, size=(min(rows, resamples - start), size))
        sums = values.take(indices).sum(axis=1)
        if weights is None:
            means.append(sums / size)
        else:
            totals = weights.take(indices).sum(axis=1)
            means.append(sums[totals > 0] / totals[totals > 0])
    resampled = np.concatenate(means)
    if len(resampled) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check(values: Floats, weights: Floats | None, level: float, resamples: int) -> None:
    for name, array in (("values", values), ("weights", weights)):
        if array is None:
            continue
        if array.ndim != 1 or array.shape != values.shape:
            raise ValueError(f"{name} has shape {array.shape}: values and weights must both be (N,).")
        if not np.isfinite(array).all():
            raise ValueError(
                f"{name} contains {np.count_nonzero(~np.isfinite(array))} of {array.size} entries that are NaN or "
                "infinite: remove the queries without a score."
            )
    if weights is not None and (weights < 0).any():
        raise ValueError(f"weights contains {weights.min()}: must not be negative.")
    if not 0 < level < 1:
        raise ValueError(f"level={level} is invalid: must be between 0 and 1, for example 0.95.")
    if resamples < 1:
        raise ValueError(f"resamples={resamples} is invalid: must be at least 1.")
