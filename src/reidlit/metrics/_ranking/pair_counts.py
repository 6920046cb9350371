"""Verification scores collected from blocks."""

import numpy as np

from reidlit.metrics._ranking.histogram import bin_of, upper_edge
from reidlit.metrics._ranking.tiles import Answered, Block, Histogram
from reidlit.metrics._ranking.types import Integers
from reidlit.metrics.scores import FPRS, Verified
from reidlit.metrics.verification import roc


class PairCounts:
    """Counts all pairs of a query and a gallery entry that are not junk, by distance."""

    histogram: Histogram

    def __init__(self, num_queries: int) -> None:
        """Start with the number of queries, Q."""
        self.num_queries = num_queries
        self.rows: list[Integers] = []
        self.matches: list[Integers] = []
        self.junk: list[Integers] = []

    def histogram_for(self, block: Block) -> Histogram:
        """What a block is to count its distances in; one for all, on the device of the first."""
        if not self.rows:
            self.histogram = block.histogram()
        return self.histogram

    def add(self, part: Answered) -> None:
        """Add a block that was counted in the histogram."""
        rows, block, relevance, _ = part
        self.rows.append(rows[relevance.match_rows])
        self.matches.append(bin_of(block.at(relevance.match_rows, relevance.matches)))
        self.junk.append(bin_of(block.at(relevance.junk_rows, relevance.junk)))

    def result(self) -> Verified:
        """The scores over all blocks."""
        used, counts = self.histogram.occupied()
        rows, matches = np.concatenate(self.rows), np.searchsorted(used, np.concatenate(self.matches))
        junk = np.searchsorted(used, np.concatenate(self.junk))
        positive = np.bincount(matches, minlength=len(used))
        negative = counts - positive - np.bincount(junk, minlength=len(used))
        upper = upper_edge(used)
        curve = roc(upper, positive, negative)
        above = (negative[::-1].cumsum()[::-1] - negative / 2) / max(negative.sum(), 1)
        num_matches = np.bincount(rows, minlength=self.num_queries)
        total = np.bincount(rows, weights=above[matches], minlength=self.num_queries)
        accepted = [
            np.bincount(rows[upper[matches] <= curve.threshold_at(fpr)], minlength=self.num_queries) for fpr in FPRS
        ]
        shares = np.where(num_matches > 0, total / np.maximum(num_matches, 1), np.nan)
        return Verified(curve, shares, np.stack(accepted, axis=1))
