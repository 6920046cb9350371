"""Confidence intervals of averaged figures."""

import numpy as np

from reidlit.metrics._ranking.types import Floats

# Draws at a time: few enough to stay in the processor's cache, which is faster than all resamples at once.
CHUNK = 2**17


def interval(
    values: Floats, weights: Floats | None = None, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of the values, or of `sum(values) / sum(weights)`.

    The entries are drawn with replacement, as many as there are, each with its weight. For a figure that is averaged over
    pairs, an entry is a query with the sum over its pairs and their number: pairs of one query go together. The interval
    tells how the figure varies with the queries alone; the gallery and the model are taken as given.

    It depends on the values and the seed, but neither on the order of the values nor on NumPy's global generator.

    Source: Bradley Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 1979.

    Args:
        values: (N,) finite.
        weights: (N,) finite and not negative; resamples that have no weight are left out.
        level: Share of the resamples inside the interval, between 0 and 1.
        resamples: How many, from 1.
        seed: Of the generator, from 0.

    Returns:
        The lower and the upper end; NaN without values or without weight.

    Raises:
        ValueError: An argument does not fit.
    """
    _check(values, weights, level, resamples)
    size = len(values)
    if size == 0:
        return float("nan"), float("nan")
    order = np.argsort(values) if weights is None else np.lexsort((weights, values))
    values, weights = values[order], None if weights is None else weights[order]

    # scipy.stats.bootstrap gives the same intervals within their random error, but takes 1.2 to 10 times as long and does
    # not accept a single value or resamples without weight.
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // size)
    figures = []
    for start in range(0, resamples, rows):
        drawn = rng.integers(size, size=(min(rows, resamples - start), size))
        sums = values.take(drawn).sum(axis=1)
        if weights is None:
            figures.append(sums / size)
        else:
            totals = weights.take(drawn).sum(axis=1)
            figures.append(sums[totals > 0] / totals[totals > 0])
    resampled = np.concatenate(figures)
    if len(resampled) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check(values: Floats, weights: Floats | None, level: float, resamples: int) -> None:
    for name, array in (("values", values), ("weights", weights)):
        if array is None:
            continue
        if array.ndim != 1 or array.shape != values.shape:
            raise ValueError(f"{name} has shape {array.shape}; values and weights must both be (N,)")
        if not np.isfinite(array).all():
            raise ValueError(
                f"{name} holds {np.count_nonzero(~np.isfinite(array))} of {array.size} entries that are NaN or infinite; "
                "leave out the queries that have no figure"
            )
    if weights is not None and (weights < 0).any():
        raise ValueError(f"weights must not be negative, got {weights.min()}")
    if not 0 < level < 1:
        raise ValueError(f"level={level} must be between 0 and 1, like 0.95")
    if resamples < 1:
        raise ValueError(f"resamples={resamples} must be at least 1")
