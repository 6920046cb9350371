"""Verification: are two images the same person? Decided by a threshold on their distance."""

from typing import NamedTuple

import numpy as np

from reidlit.metrics._ranking.histogram import bin_of, upper_edge
from reidlit.metrics._ranking.tiles import Histogram, RankedTile, Tile
from reidlit.metrics._ranking.types import Floats, Integers

FPRS = (1e-4, 1e-3)  # false positive rates at which the TPR is reported
NUM_DISPLAY_BINS = 80  # of the histogram for people


class PairHistogram(NamedTuple):
    """Distances of pairs in bins of equal width.

    Attributes:
        edges: (B + 1,) ascending, in the unit of `pairwise_distance`.
        positive: (B,) pairs of the same person.
        negative: (B,) pairs of two persons.
    """

    edges: Floats
    positive: Integers
    negative: Integers


class ROCCurve(NamedTuple):
    """How well a distance tells pairs of the same person from pairs of two persons: the ROC curve and its figures.

    A pair is accepted where its distance is at most the threshold. TPR is the share of accepted positive pairs, FPR that
    of accepted negative ones. Thresholds have the unit of `pairwise_distance`: squared Euclidean, or 1 - cosine.

    Without a positive or without a negative pair, whatever would need one is NaN.

    Attributes:
        fpr: (K,) ascending from 0 to 1.
        tpr: (K,) likewise. The curve runs straight from point to point, as ties are broken at random.
        threshold: (K,) of each point, ascending; -inf, which accepts nothing, first. Of the thresholds with one FPR the
            curve holds the first and the last: those between lie on a vertical line, and no lookup needs them.
        auc: Area under the curve: how often a positive pair is nearer than a negative one, a tie counting half.
        eer: Equal error rate, where FPR = 1 - TPR on the curve.
        eer_threshold: The bound of a bin at which FPR and 1 - TPR come closest, the lowest of equals.
        num_positive: Pairs of the same person.
        num_negative: Pairs of two persons.
        histogram: The distances, coarsely.
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
        """The largest TPR of a threshold whose FPR is not above `fpr`; nothing is interpolated.

        Args:
            fpr: From 0 to 1.

        Returns:
            The TPR; NaN without a positive or without a negative pair.

        Raises:
            ValueError: Another `fpr`.
        """
        return self._last_within(self.tpr, fpr)

    def threshold_at(self, fpr: float) -> float:
        """The largest threshold whose FPR is not above `fpr`, among the bounds of the histogram's bins.

        Args:
            fpr: From 0 to 1.

        Returns:
            The threshold; -inf where even the lowest bin accepts too much, NaN without a negative pair.

        Raises:
            ValueError: Another `fpr`.
        """
        return self._last_within(self.threshold, fpr)

    def _last_within(self, values: Floats, fpr: float) -> float:
        if not 0 <= fpr <= 1:
            raise ValueError(f"fpr={fpr} must be from 0 to 1")
        within = np.count_nonzero(self.fpr <= fpr)
        return float(values[within - 1]) if within else float("nan")  # none: the FPR itself is NaN


class VerificationScores(NamedTuple):
    """Verification over all pairs, and the contribution of each query.

    Attributes:
        curve: ROC, AUC and EER.
        above: (num_queries,) fraction of the negative pairs that are further apart than one of the query's matches, on
            average over its matches, a tie counting half; NaN without a match. Their mean over matches is the AUC.
        accepted: (num_queries, len(FPRS)) how many of the query's matches the threshold at each FPR of `FPRS` accepts.
    """

    curve: ROCCurve
    above: Floats
    accepted: Integers


def roc(upper: Floats, positive: Integers, negative: Integers) -> ROCCurve:
    """ROC curve from histograms of the distances of positive and negative pairs. Pairs in one bin count as tied.

    Source: Tom Fawcett, "An Introduction to ROC Analysis", Pattern Recognition Letters 2006; the area as the probability
    of a right order: J. A. Hanley and B. J. McNeil, "The Meaning and Use of the Area under a Receiver Operating
    Characteristic (ROC) Curve", Radiology 1982.

    Args:
        upper: (B,) largest distance of each bin, strictly ascending; the last may be infinite.
        positive: (B,) number of pairs of the same person in each bin.
        negative: (B,) number of pairs of two persons in each bin.

    Returns:
        The curve and its figures, NaN where they need a pair that there is not.

    Raises:
        ValueError: The shapes do not fit, there is no bin, `upper` does not ascend, or a count is no integer from 0.
    """
    _check(upper, positive, negative)
    positive, negative = positive.astype(np.int64), negative.astype(np.int64)
    accepted_positive = np.concatenate([[0], np.cumsum(positive)])
    accepted_negative = np.concatenate([[0], np.cumsum(negative)])
    num_positive, num_negative = int(accepted_positive[-1]), int(accepted_negative[-1])
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of what has no pairs
        fpr = accepted_negative / num_negative
        tpr = accepted_positive / num_positive
        fnr = (num_positive - accepted_positive) / num_positive
    threshold = np.concatenate([[-np.inf], upper])

    auc = eer = eer_threshold = float("nan")
    if num_positive and num_negative:
        # A positive and a negative pair count twice in the right order and once in a tie: that is the sum of what lies
        # at or beyond the bin and what lies beyond it. The sum can outgrow 64 bits, its two parts cannot.
        right_twice = (num_negative - accepted_negative[:-1]) + (num_negative - accepted_negative[1:])
        high, low = int(positive @ (right_twice >> 28)), int(positive @ (right_twice & (2**28 - 1)))
        auc = ((high << 28) + low) / (2 * num_positive * num_negative)
        excess = fpr - fnr  # ascends from -1 to 1
        k = int(np.searchsorted(excess, 0))
        eer = float(fpr[k] - excess[k] / (excess[k] - excess[k - 1]) * (fpr[k] - fpr[k - 1]))
        eer_threshold = float(upper[np.abs(excess[1:]).argmin()])

    changes = np.diff(accepted_negative) > 0
    kept = np.concatenate([[True], changes]) | np.concatenate([changes, [True]])
    figures = (auc, eer, eer_threshold, num_positive, num_negative)
    return ROCCurve(fpr[kept], tpr[kept], threshold[kept], *figures, _display_histogram(upper, positive, negative))


def _display_histogram(upper: Floats, positive: Integers, negative: Integers) -> PairHistogram:
    """Bin the pairs from the first to the last bin that holds one; those without a finite bound count in the last."""
    occupied = upper[(positive + negative > 0) & np.isfinite(upper)]
    low, high = (float(occupied[0]), float(occupied[-1])) if len(occupied) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, NUM_DISPLAY_BINS + 1)
    index = np.searchsorted(edges, upper).clip(1, NUM_DISPLAY_BINS) - 1
    counts = (np.bincount(index, pairs, NUM_DISPLAY_BINS).astype(np.int64) for pairs in (positive, negative))
    return PairHistogram(edges, *counts)


def _check(upper: Floats, positive: Integers, negative: Integers) -> None:
    if upper.ndim != 1 or len(upper) == 0 or not upper.shape == positive.shape == negative.shape:
        raise ValueError(
            f"upper, positive and negative must be (B,) with at least one bin, got shapes {upper.shape}, "
            f"{positive.shape} and {negative.shape}"
        )
    if not (upper[1:] > upper[:-1]).all() or np.isnan(upper[0]):
        raise ValueError("upper must ascend strictly and hold no NaN; give each bin's largest distance in order")
    for name, count in (("positive", positive), ("negative", negative)):
        if count.dtype.kind not in "iu" or (count < 0).any():
            raise ValueError(f"{name} must hold counts from 0, got {count.dtype} from {count.min()}")


class PairCounts:
    """Counts all pairs of a query and a gallery entry that are not junk, by distance."""

    histogram: Histogram

    def __init__(self, num_queries: int) -> None:
        """Start with the number of queries, Q."""
        self.num_queries = num_queries
        self.rows: list[Integers] = []
        self.matches: list[Integers] = []
        self.junk: list[Integers] = []

    def histogram_for(self, tile: Tile) -> Histogram:
        """Return the histogram that a tile counts its distances in: one for all, on the device of the first."""
        if not self.rows:
            self.histogram = tile.histogram()
        return self.histogram

    def add(self, ranked: RankedTile) -> None:
        """Add a tile whose distances were counted in the histogram."""
        rows, tile, relevance, _ = ranked
        self.rows.append(rows[relevance.match_rows])
        self.matches.append(bin_of(tile.at(relevance.match_rows, relevance.matches)))
        self.junk.append(bin_of(tile.at(relevance.junk_rows, relevance.junk)))

    def result(self) -> VerificationScores:
        """Return the scores over all pairs."""
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
