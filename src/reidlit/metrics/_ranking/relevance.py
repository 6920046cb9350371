"""Which gallery entries are a match and which are junk, for each query of a tile."""

from typing import NamedTuple

import numpy as np

from reidlit.metrics._ranking.types import Integers


class Relevance(NamedTuple):
    """Matches and junk of each query; every other gallery entry is a distractor.

    `matches` (M,) and `junk` (J,) are gallery indices, query after query and ascending within a query; query i owns
    `matches[match_offsets[i]:match_offsets[i + 1]]`, and `junk_offsets` divides the junk in the same way.
    """

    matches: Integers
    match_offsets: Integers
    junk: Integers
    junk_offsets: Integers

    @classmethod
    def none(cls, num_queries: int) -> "Relevance":
        """Return neither matches nor junk for any query."""
        entries, offsets = np.empty(0, np.int64), np.zeros(num_queries + 1, np.int64)
        return cls(entries, offsets, entries, offsets)

    @property
    def match_rows(self) -> Integers:
        """(M,) the query of each match."""
        return np.repeat(np.arange(len(self.match_offsets) - 1), np.diff(self.match_offsets))

    @property
    def junk_rows(self) -> Integers:
        """(J,) the query of each junk entry."""
        return np.repeat(np.arange(len(self.junk_offsets) - 1), np.diff(self.junk_offsets))
