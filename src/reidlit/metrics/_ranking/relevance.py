"""Matches and junk among the gallery entries, for each query of a tile."""

from typing import NamedTuple

import numpy as np

from reidlit.metrics._ranking.types import Integers


class Relevance(NamedTuple):
    """Matches and junk of each query; every other gallery entry is a non-match.

    Attributes:
        matches: (M,) gallery indices of all matches, sorted by query and ascending within a query. The matches of query
            i are `matches[match_offsets[i]:match_offsets[i + 1]]`.
        match_offsets: (B + 1,) offsets of the queries in `matches`.
        junk: (J,) gallery indices of all junk, sorted like `matches`.
        junk_offsets: (B + 1,) offsets of the queries in `junk`.
    """

    matches: Integers
    match_offsets: Integers
    junk: Integers
    junk_offsets: Integers

    @classmethod
    def none(cls, num_queries: int) -> "Relevance":
        """Create a relevance without matches and junk."""
        entries, offsets = np.empty(0, np.int64), np.zeros(num_queries + 1, np.int64)
        return cls(entries, offsets, entries, offsets)

    @property
    def match_rows(self) -> Integers:
        """Query (M,) of each match."""
        return np.repeat(np.arange(len(self.match_offsets) - 1), np.diff(self.match_offsets))

    @property
    def junk_rows(self) -> Integers:
        """Query (J,) of each junk entry."""
        return np.repeat(np.arange(len(self.junk_offsets) - 1), np.diff(self.junk_offsets))
