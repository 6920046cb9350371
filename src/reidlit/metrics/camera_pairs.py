"""Retrieval scores for each pair of query camera and gallery camera."""

from typing import NamedTuple

import numpy as np

from reidlit.metrics._ranking.tiles import GalleryGroups, RankedTile
from reidlit.metrics._ranking.types import Floats, Integers


class CameraPairs(NamedTuple):
    """Scores for each pair of a query camera and a gallery camera.

    Attributes:
        q_camids: (A,) query cameras, ascending.
        g_camids: (B,) gallery cameras, ascending.
        mAP: (A, B) mAP over the queries with a match in the gallery camera; NaN if there are none.
        rank1: (A, B) rank-1 over the same queries; NaN if there are none.
        num_queries: (A, B) number of queries with a match in the gallery camera.
    """

    q_camids: Integers
    g_camids: Integers
    mAP: Floats
    rank1: Floats
    num_queries: Integers


class CameraPairTable:
    """Collector of `CameraPairs`, for query cameras (Q,) and gallery cameras (G,)."""

    def __init__(self, q_camids: Integers, g_camids: Integers) -> None:
        self.q_camids, self.q_camera = np.unique(q_camids, return_inverse=True)
        self.groups = GalleryGroups.of(g_camids)
        self.shape = (len(self.q_camids), len(self.groups.labels))
        self.ap: list[Floats] = []
        self.hit: list[Floats] = []
        self.cell: list[Integers] = []

    def add(self, ranked: RankedTile) -> None:
        """Add a tile with matches that were ranked within `groups`."""
        rows, _, relevance, (_, ranks, _) = ranked
        # One ranked list for each query and each gallery camera with a match.
        list_of_match = relevance.match_rows * self.shape[1] + self.groups.group[relevance.matches]
        order = np.lexsort([ranks, list_of_match])
        lists, starts, sizes = np.unique(list_of_match[order], return_index=True, return_counts=True)
        nth = np.arange(len(order)) - np.repeat(starts, sizes) + 1
        list_index = np.repeat(np.arange(len(lists)), sizes)
        self.ap.append(np.bincount(list_index, weights=nth / ranks[order], minlength=len(lists)) / sizes)
        self.hit.append((ranks[order][starts] == 1).astype(np.float64))
        query, camera = np.divmod(lists, self.shape[1])
        self.cell.append(self.q_camera[rows[query]] * self.shape[1] + camera)

    def result(self) -> CameraPairs:
        """Return the table over all queries."""
        cell = np.concatenate(self.cell)
        count = np.bincount(cell, minlength=self.shape[0] * self.shape[1])
        mean_ap, mean_hit = (
            _mean(np.concatenate(values), cell, count).reshape(self.shape) for values in (self.ap, self.hit)
        )
        return CameraPairs(self.q_camids, self.groups.labels, mean_ap, mean_hit, count.reshape(self.shape))


def _mean(values: Floats, cell: Integers, count: Integers) -> Floats:
    order = np.lexsort([values, cell])  # a fixed order, so that the order of the queries does not matter
    total = np.bincount(cell[order], weights=values[order], minlength=len(count))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
