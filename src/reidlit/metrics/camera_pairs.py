"""How well each camera finds people again in each other camera."""

from typing import NamedTuple

import numpy as np

from reidlit.metrics._ranking.tiles import GalleryGroups, RankedTile
from reidlit.metrics._ranking.types import Floats, Integers


class CameraPairs(NamedTuple):
    """Scores of the queries of one camera against the gallery of one other camera, for each pair.

    Attributes:
        q_camids: (A,) ascending.
        g_camids: (B,) ascending.
        mAP: (A, B) over the queries with a match in that camera; NaN where there is none.
        rank1: (A, B) likewise.
        num_queries: (A, B) how many queries have a match in that camera.
    """

    q_camids: Integers
    g_camids: Integers
    mAP: Floats
    rank1: Floats
    num_queries: Integers


class CameraPairTable:
    """Collects `CameraPairs` from tiles."""

    def __init__(self, q_camids: Integers, g_camids: Integers) -> None:
        """Start with the cameras of all queries (Q,) and of the gallery (G,)."""
        self.q_camids, self.q_camera = np.unique(q_camids, return_inverse=True)
        self.groups = GalleryGroups.of(g_camids)
        self.shape = (len(self.q_camids), len(self.groups.labels))
        self.ap: list[Floats] = []
        self.hit: list[Floats] = []
        self.cell: list[Integers] = []

    def add(self, ranked: RankedTile) -> None:
        """Add a tile whose matches were ranked within `groups`."""
        rows, _, relevance, (_, ranks, _) = ranked
        # One list for each query and gallery camera that has a match.
        list_of_match = relevance.match_rows * self.shape[1] + self.groups.group[relevance.matches]
        order = np.lexsort([ranks, list_of_match])
        lists, starts, sizes = np.unique(list_of_match[order], return_index=True, return_counts=True)
        nth = np.arange(len(order)) - np.repeat(starts, sizes) + 1
        which = np.repeat(np.arange(len(lists)), sizes)
        self.ap.append(np.bincount(which, weights=nth / ranks[order], minlength=len(lists)) / sizes)
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
    order = np.lexsort([values, cell])  # adding up in one order whatever the order of the queries
    total = np.bincount(cell[order], weights=values[order], minlength=len(count))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
