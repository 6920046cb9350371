"""Verification metrics: ROC curve, AUC and EER for deciding by distance whether two images show the same person."""

from typing import NamedTuple

import numpy as np

from reidlit.metrics._ranking.histogram import bin_of, upper_edge
from reidlit.metrics._ranking.tiles import Histogram, RankedTile, Tile
from reidlit.metrics._ranking.types import Floats, Integers

FPRS = (1e-4, 1e-3)  # false positive rates at which the TPR is reported
NUM_DISPLAY_BINS = 80  # bins of the histogram for plots


class PairHistogram(NamedTuple):
    """Histogram of pair distances with bins of equal width.

    Attributes:
        edges: (B + 1,) ascending bin edges, in the unit of `pairwise_distance`.
        positive: (B,) number of pairs with the same identity.
        negative: (B,) number of pairs with different identities.
    """

    edges: Floats
    positive: Integers
    negative: Integers


class ROCCurve(NamedTuple):
    """ROC curve of a distance as classifier of pairs, with AUC and EER.

    A positive pair has the same identity, a negative pair has different identities. A pair is accepted if its distance
    is at most the threshold. TPR and FPR are the fractions of accepted positive and negative pairs. Thresholds have the
    unit of `pairwise_distance`: squared Euclidean distance, or 1 - cosine similarity.

    Values that require a positive or a negative pair are NaN if there is none.

    Attributes:
        fpr: (K,) false positive rates, ascending from 0 to 1.
        tpr: (K,) true positive rates, ascending from 0 to 1. Points are connected by straight lines.
        threshold: (K,) threshold of each point, ascending. The first is -inf, which accepts no pair. For each FPR, the
            curve contains only the smallest and the largest threshold.
        auc: Area under the curve: the probability that a positive pair is closer than a negative pair, where a tie
            counts as one half.
        eer: Equal error rate, where FPR = 1 - TPR on the curve.
        eer_threshold: Upper bin edge at which FPR and 1 - TPR are closest; the lowest if there are several.
        num_positive: Number of positive pairs.
        num_negative: Number of negative pairs.
        histogram: Coarse histogram of the distances.
    """

    fpr: Floats
    tpr: Floats
    threshold: Floats
    auc: float
    eer: float
    eer_threshold: float
    num_positive: int
    num_negative: int
    histogram: PairHistogram

    def tpr_at(self, fpr: float) -> float:
        """Return the largest TPR at a false positive rate of at most `fpr`, without interpolation.

        Args:
            fpr: False positive rate, from 0 to 1.

        Returns:
            The TPR; NaN without positive or without negative pairs.

        Raises:
            ValueError: If `fpr` is out of range.
        """
        return self._last_within(self.tpr, fpr)

    def threshold_at(self, fpr: float) -> float:
        """Return the largest threshold with a false positive rate of at most `fpr`.

        Args:
            fpr: False positive rate, from 0 to 1.

        Returns:
            The threshold, an upper bin edge; -inf if every bin exceeds `fpr`, NaN without negative pairs.

        Raises:
            ValueError: If `fpr` is out of range.
        """
        return self._last_within(self.threshold, fpr)

    def _last_within(self, values: Floats, fpr: float) -> float:
        if not 0 <= fpr <= 1:
            raise ValueError(f"fpr={fpr} is invalid: must be from 0 to 1.")
        count = np.count_nonzero(self.fpr <= fpr)
        return float(values[count - 1]) if count else float("nan")  # 0 if the FPR is NaN


class VerificationScores(NamedTuple):
    """Verification over all pairs, and the contribution of each query.

    Attributes:
        curve: ROC, AUC and EER.
        above: (num_queries,) fraction of negative pairs with a larger distance than a match of the query, averaged over
            its matches; a tie counts as one half, and NaN stands for no match. The mean over all matches is the AUC.
        accepted: (num_queries, len(FPRS)) number of matches of the query that are accepted at each FPR of `FPRS`.
    """

    curve: ROCCurve
    above: Floats
    accepted: Integers


def roc(upper: Floats, positive: Integers, negative: Integers) -> ROCCurve:
    """Compute the ROC curve from histograms of the distances of positive and negative pairs.

    Pairs in the same bin count as tied.

    Sources: Tom Fawcett, "An Introduction to ROC Analysis", Pattern Recognition Letters 2006; for the AUC as a
    probability, J. A. Hanley and B. J. McNeil, "The Meaning and Use of the Area under a Receiver Operating
    Characteristic (ROC) Curve", Radiology 1982.

    Args:
        upper: (B,) upper edge of each bin, strictly ascending; the last may be infinite.
        positive: (B,) number of pairs with the same identity in each bin.
        negative: (B,) number of pairs with different identities in each bin.

    Raises:
        ValueError: If the shapes are invalid, there is no bin, `upper` does not ascend strictly, or a count is not a
            non-negative integer.
    """
    _check(upper, positive, negative)
    positive, negative = positive.astype(np.int64), negative.astype(np.int64)
    accepted_positive = np.concatenate([[0], np.cumsum(positive)])
    accepted_negative = np.concatenate([[0], np.cumsum(negative)])
    num_positive, num_negative = int(accepted_positive[-1]), int(accepted_negative[-1])
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN where there are no pairs
        fpr = accepted_negative / num_negative
        tpr = accepted_positive / num_positive
        fnr = (num_positive - accepted_positive) / num_positive
    threshold = np.concatenate([[-np.inf], upper])

    auc = eer = eer_threshold = float("nan")
    if num_positive and num_negative:
        # Count 2 for each correctly ordered positive and negative pair and 1 for each tie: the number of negatives in
        # the bin or beyond plus the number beyond. The total can exceed 64 bits, so it is summed in two parts.
        twice_correct = (num_negative - accepted_negative[:-1]) + (num_negative - accepted_negative[1:])
        high, low = int(positive @ (twice_correct >> 28)), int(positive @ (twice_correct & (2**28 - 1)))
        auc = ((high << 28) + low) / (2 * num_positive * num_negative)
        excess = fpr - fnr  # ascends from -1 to 1
        k = int(np.searchsorted(excess, 0))
        eer = float(fpr[k] - excess[k] / (excess[k] - excess[k - 1]) * (fpr[k] - fpr[k - 1]))
        eer_threshold = float(upper[np.abs(excess[1:]).argmin()])

    changes = np.diff(accepted_negative) > 0
    kept = np.concatenate([[True], changes]) | np.concatenate([changes, [True]])
    scalars = (auc, eer, eer_threshold, num_positive, num_negative)
    return ROCCurve(fpr[kept], tpr[kept], threshold[kept], *scalars, _display_histogram(upper, positive, negative))


def _display_histogram(upper: Floats, positive: Integers, negative: Integers) -> PairHistogram:
    """Rebin the pairs between the first and last occupied bin; infinite distances go into the last bin."""
    occupied = upper[(positive + negative > 0) & np.isfinite(upper)]
    low, high = (float(occupied[0]), float(occupied[-1])) if len(occupied) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, NUM_DISPLAY_BINS + 1)
    index = np.searchsorted(edges, upper).clip(1, NUM_DISPLAY_BINS) - 1
    counts = (np.bincount(index, pairs, NUM_DISPLAY_BINS).astype(np.int64) for pairs in (positive, negative))
    return PairHistogram(edges, *counts)


def _check(upper: Floats, positive: Integers, negative: Integers) -> None:
    if upper.ndim != 1 or len(upper) == 0 or not upper.shape == positive.shape == negative.shape:
        raise ValueError(
            f"upper, positive and negative have shapes {upper.shape}, {positive.shape} and {negative.shape}: all must "
            "be (B,) with at least one bin."
        )
    if not (upper[1:] > upper[:-1]).all() or np.isnan(upper[0]):
        raise ValueError("upper is invalid: bin edges must ascend strictly and must not be NaN.")
    for name, count in (("positive", positive), ("negative", negative)):
        if count.dtype.kind not in "iu" or (count < 0).any():
            raise ValueError(
                f"{name} has dtype {count.dtype} and minimum {count.min()}: must be non-negative integers."
            )


class PairCounts:
    """Collector of pair counts by distance, over all pairs of a query and a gallery entry that are not junk."""

    histogram: Histogram

    def __init__(self, num_queries: int) -> None:
        self.num_queries = num_queries
        self.rows: list[Integers] = []
        self.matches: list[Integers] = []
        self.junk: list[Integers] = []

    def histogram_for(self, tile: Tile) -> Histogram:
        """Return the histogram that collects the distances of all tiles, on the device of the first tile."""
        if not self.rows:
            self.histogram = tile.histogram()
        return self.histogram

    def add(self, ranked: RankedTile) -> None:
        """Add a tile with distances that were already counted in the histogram."""
        rows, tile, relevance, _ = ranked
        self.rows.append(rows[relevance.match_rows])
        self.matches.append(bin_of(tile.at(relevance.match_rows, relevance.matches)))
        self.junk.append(bin_of(tile.at(relevance.junk_rows, relevance.junk)))

    def result(self) -> VerificationScores:
        """Compute the scores over all pairs."""
        bins, counts = self.histogram.occupied()
        rows, matches = np.concatenate(self.rows), np.searchsorted(bins, np.concatenate(self.matches))
        junk = np.searchsorted(bins, np.concatenate(self.junk))
        positive = np.bincount(matches, minlength=len(bins))
        negative = counts - positive - np.bincount(junk, minlength=len(bins))
        upper = upper_edge(bins)
        curve = roc(upper, positive, negative)
        above = (negative[::-1].cumsum()[::-1] - negative / 2) / max(negative.sum(), 1)
        num_matches = np.bincount(rows, minlength=self.num_queries)
        total = np.bincount(rows, weights=above[matches], minlength=self.num_queries)
        accepted = [
            np.bincount(rows[upper[matches] <= curve.threshold_at(fpr)], minlength=self.num_queries) for fpr in FPRS
        ]
        mean = np.where(num_matches > 0, total / np.maximum(num_matches, 1), np.nan)
        return VerificationScores(curve, mean, np.stack(accepted, axis=1))
