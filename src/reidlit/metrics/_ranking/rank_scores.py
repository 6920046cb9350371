"""Scores of each query, computed from the ranks of its matches."""

from typing import NamedTuple

import numpy as np

from reidlit.metrics._ranking.tiles import RankedTile
from reidlit.metrics._ranking.types import Floats, Integers

AP_FORMULAS = ("step", "trapezoid")


class RankScores(NamedTuple):
    """Scores of each query.

    Attributes:
        ap: (Q,) average precision; NaN without a match.
        inp: (Q,) inverse negative penalty, number of matches / rank of the last match; NaN without a match.
        first_match: (Q,) 1-based rank of the first match; 0 without a match.
        num_matches: (Q,) number of matches.
    """

    ap: Floats
    inp: Floats
    first_match: Integers
    num_matches: Integers


class RankScoring:
    """Collector of `RankScores`, with one of `AP_FORMULAS`."""

    def __init__(self, num_queries: int, ap: str) -> None:
        self.trapezoid = ap == "trapezoid"
        self.scores = RankScores(
            ap=np.full(num_queries, np.nan),
            inp=np.full(num_queries, np.nan),
            first_match=np.zeros(num_queries, np.int64),
            num_matches=np.zeros(num_queries, np.int64),
        )

    def add(self, ranked: RankedTile) -> None:
        """Add a tile."""
        rows, _, relevance, (ranks, _, _) = ranked
        ranks = ranks[np.lexsort([ranks, relevance.match_rows])]
        count = np.diff(relevance.match_offsets)
        nth = np.arange(len(ranks)) - np.repeat(relevance.match_offsets[:-1], count) + 1
        precision = nth / ranks
        if self.trapezoid:
            before = np.where(ranks > 1, (nth - 1) / np.maximum(ranks - 1, 1), 1.0)
            precision = (precision + before) / 2
        total = np.bincount(relevance.match_rows, weights=precision, minlength=len(rows))
        valid = count > 0
        first, last = relevance.match_offsets[:-1][valid], relevance.match_offsets[1:][valid] - 1
        self.scores.ap[rows[valid]] = total[valid] / count[valid]
        self.scores.inp[rows[valid]] = count[valid] / ranks[last]
        self.scores.first_match[rows[valid]] = ranks[first]
        self.scores.num_matches[rows] = count

    def result(self) -> RankScores:
        """Return the scores of all queries."""
        return self.scores
