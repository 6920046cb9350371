"""Evaluation protocols: which gallery entries count for a query, and which are left out."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from reidlit.metrics.kernels import Integers


class Relevance(NamedTuple):
    """The gallery entries that are a match or junk of each query; every other entry is a distractor.

    `entries` (M,) are gallery indices, query after query and ascending within a query, `is_match` (M,) tells matches
    from junk, and query i owns `entries[offsets[i]:offsets[i + 1]]`.
    """

    entries: Integers
    is_match: NDArray[np.bool_]
    offsets: Integers


class RelevanceRule(Protocol):
    """What a protocol makes of a gallery: a rule that is asked for one block of queries after the other."""

    def __call__(self, q_pids: Integers, q_camids: Integers | None) -> Relevance:
        """Relevance of the gallery for queries with these labels, (B,) each."""


class Market1501Rule:
    """A match has the query's pid and another camera; the same pid seen by the same camera is junk.

    Source: Liang Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.
    """

    def __init__(self, g_pids: Integers, g_camids: Integers | None) -> None:
        """Group the gallery by pid.

        Args:
            g_pids: (G,).
            g_camids: (G,), or None where no camera is known: then nothing is junk.
        """
        self.order = np.argsort(g_pids, kind="stable")
        self.sorted_pids = g_pids[self.order]
        self.g_camids = g_camids

    def __call__(self, q_pids: Integers, q_camids: Integers | None) -> Relevance:
        """Relevance of the gallery for queries with these labels, (B,) each."""
        starts = np.searchsorted(self.sorted_pids, q_pids, side="left")
        counts = np.searchsorted(self.sorted_pids, q_pids, side="right") - starts
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        # Entry m of query i lies m - offsets[i] places after the start of the query's group.
        entries = self.order[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)]
        if q_camids is None or self.g_camids is None:
            is_match = np.ones(len(entries), np.bool_)
        else:
            is_match = self.g_camids[entries] != np.repeat(q_camids, counts)
        return Relevance(entries, is_match, offsets)


PROTOCOLS: dict[str, Callable[[Integers, Integers | None], RelevanceRule]] = {"market1501": Market1501Rule}
