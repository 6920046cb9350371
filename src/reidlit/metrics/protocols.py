"""Evaluation protocols: which gallery entries count for a query, and which are left out."""

from typing import NamedTuple

import numpy as np

from reidlit.metrics._ranking.types import Integers

PROTOCOLS = ("market1501", "cuhk03", "multi_query", "centroid")


class Relevance(NamedTuple):
    """The gallery entries that are a match or junk of each query; every other entry is a distractor.

    `matches` (M,) and `junk` (J,) are gallery indices, query after query and ascending within a query; query i owns
    `matches[match_offsets[i]:match_offsets[i + 1]]`, and likewise of the junk.
    """

    matches: Integers
    match_offsets: Integers
    junk: Integers
    junk_offsets: Integers

    @property
    def match_rows(self) -> Integers:
        """(M,) the query of each match."""
        return np.repeat(np.arange(len(self.match_offsets) - 1), np.diff(self.match_offsets))

    @property
    def junk_rows(self) -> Integers:
        """(J,) the query of each junk entry."""
        return np.repeat(np.arange(len(self.junk_offsets) - 1), np.diff(self.junk_offsets))


class CrossCamera:
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
        offsets = np.concatenate([[0], np.cumsum(counts)])
        # Entry m of query i lies m - offsets[i] places after the start of the query's group.
        entries = self.order[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)]
        if q_camids is None or self.g_camids is None:
            is_match = np.ones(len(entries), np.bool_)
        else:
            is_match = self.g_camids[entries] != np.repeat(q_camids, counts)
        match_offsets = np.concatenate([[0], np.cumsum(is_match)])[offsets]
        return Relevance(entries[is_match], match_offsets, entries[~is_match], offsets - match_offsets)
