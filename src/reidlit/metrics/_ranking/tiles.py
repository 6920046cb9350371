"""Tiles, the distances of a block of queries to all gallery entries, and their ranking.

`HostTile` ranks with Numba kernels on the CPU; `device_tiles.DeviceTile` ranks on a GPU without copying the distances.
"""

from typing import Any, NamedTuple, Protocol, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from reidlit.metrics._ranking import match_kernels, row_kernels
from reidlit.metrics._ranking.histogram import BINS, PAGES, counts_by_bin
from reidlit.metrics._ranking.relevance import Relevance
from reidlit.metrics._ranking.threads import parallel_for
from reidlit.metrics._ranking.types import Integers

Values: TypeAlias = NDArray[Any]


class Affine(NamedTuple):
    """Map from inner products to distances: `(base[i] + offset[j]) + factor * product[i, j]`.

    Attributes:
        base: (B,) float32 summand of each query.
        offset: (G,) float32 summand of each gallery entry.
        factor: Factor of the inner product.
    """

    base: Values
    offset: Values
    factor: float


# Longer lists are created by sorting, which is then faster than inserting entries one by one.
SHORT_LIST = 1024
# Kernel arguments for outputs that are not requested.
NO_INTEGERS = np.empty(0, np.int64)
FINISHED = Affine(np.empty(0, np.float32), np.empty(0, np.float32), 1.0)
NO_GROUPS = (np.empty(0, np.uint32), NO_INTEGERS, NO_INTEGERS, NO_INTEGERS)
NO_COUNTS = (np.empty(0, np.uint32), np.empty(0, np.bool_))


class GalleryGroups(NamedTuple):
    """Partition of the gallery into groups, such as cameras; see `match_kernels.group_ranks_in_row` for the fields."""

    order: NDArray[np.uint32]  # uint32, because it is read once per distance
    position_in_order: Integers
    group: Integers
    offsets: Integers
    labels: Integers

    @classmethod
    def of(cls, labels: Integers) -> "GalleryGroups":
        """Group (G,) labels, in ascending order of label."""
        labels, group = np.unique(labels, return_inverse=True)
        order = np.argsort(group, kind="stable").astype(np.uint32)
        position = np.empty(len(order), np.int64)
        position[order] = np.arange(len(order))
        return cls(order, position, group, np.concatenate([[0], np.cumsum(np.bincount(group))]), labels)


class RankingRequest(NamedTuple):
    """Optional outputs to compute for each tile in addition to the ranks of the matches.

    Attributes:
        groups: Groups of the gallery to rank the matches within.
        k: Length of the lists of nearest entries; 0 for none.
        histogram: Histogram that counts all distances.
    """

    groups: GalleryGroups | None = None
    k: int = 0
    histogram: "Histogram | None" = None


class TileRanking(NamedTuple):
    """Results of ranking a tile.

    Attributes:
        match_ranks: (M,) 1-based rank of each match among the gallery without junk, in the order of the matches.
        group_ranks: (M,) 1-based rank of each match among the gallery entries of its group; empty if not requested.
        nearest: Distances and gallery indices (B, k) of the nearest entries that are not junk, padded with inf and -1.
    """

    match_ranks: Integers
    group_ranks: Integers
    nearest: tuple[Values, Integers]


class RankedTile(NamedTuple):
    """A tile with its ranking, as the collectors of scores receive it.

    Attributes:
        rows: (B,) queries of the tile, as rows of the query set.
        tile: Distances of these queries.
        relevance: Matches and junk of these queries.
        ranking: Ranks and lists of these queries.
    """

    rows: Integers
    tile: "Tile"
    relevance: Relevance
    ranking: TileRanking


class Tile(Protocol):
    """Distances (B, G) of a block of queries."""

    def rank(self, relevance: Relevance, request: RankingRequest) -> TileRanking:
        """Rank the matches and compute the requested outputs in one pass."""

    def nearest(self, k: int) -> tuple[Values, Integers]:
        """Return distances and gallery indices (B, k) of the nearest entries."""

    def at(self, rows: Integers, columns: Integers) -> Values:
        """Return the distances (N,) at the given positions."""

    def columns(self, columns: Integers) -> Values:
        """Return the distances (B, N) to the given gallery entries."""

    def largest(self) -> Values:
        """Return the largest distance (B,) of each query."""

    def finished(self) -> Values:
        """Return all distances (B, G)."""

    def histogram(self) -> "Histogram":
        """Return an empty histogram for tiles on this device."""


class Histogram(Protocol):
    """Number of distances in each bin, see the module `histogram`."""

    def occupied(self) -> tuple[Integers, Integers]:
        """Return the occupied bins (N,), ascending, and the number of distances in each bin."""


class HostTile:
    """Tile in CPU memory.

    Args:
        values: (B, G) float32 or float64 distances without NaN, or inner products if `affine` is given.
        affine: Map from inner products to distances, applied to `values` in place when all distances are requested.
    """

    def __init__(self, values: Values, affine: Affine | None = None) -> None:
        self.values = values
        self.affine = affine

    def finished(self) -> Values:
        """Implement `Tile.finished`."""
        if self.affine is not None:
            base, offset, factor = self.affine
            parallel_for(len(base), lambda rows: row_kernels.finish_rows(self.values[rows], base[rows], offset, factor))
            self.affine = None
        return self.values

    def rank(self, relevance: Relevance, request: RankingRequest) -> TileRanking:
        """Implement `Tile.rank`."""
        groups, k, histogram = request
        if histogram is not None and not isinstance(histogram, HostHistogram):
            raise TypeError("HostTile requires a HostHistogram.")
        num_slices = int(numba.get_num_threads()) if histogram is None else histogram.begin(self.values.size)
        listed = k if k <= SHORT_LIST else 0
        ranks = np.empty(len(relevance.matches), np.int64)
        group_ranks = np.empty(0 if groups is None else len(ranks), np.int64)
        distances, indices = _empty_lists(len(self.values), listed, self.values.dtype)

        def rank_slices(slices: slice) -> None:
            for n in range(slices.start, slices.stop):
                counts, touched = NO_COUNTS if histogram is None else (histogram.counts[n], histogram.touched[n])
                match_kernels.rank_rows(
                    self.values,
                    len(self.values) * n // num_slices,
                    len(self.values) * (n + 1) // num_slices,
                    self.affine or FINISHED,
                    (relevance.matches, relevance.match_offsets, relevance.junk, relevance.junk_offsets),
                    ranks,
                    NO_GROUPS
                    if groups is None
                    else (groups.order, groups.position_in_order, groups.group, groups.offsets),
                    group_ranks,
                    counts,
                    touched,
                    distances,
                    indices,
                )

        parallel_for(num_slices, rank_slices)
        if k > SHORT_LIST:
            distances, indices = _nearest_by_sorting(self.finished(), k, relevance)
        return TileRanking(ranks, group_ranks, (distances, indices))

    def nearest(self, k: int) -> tuple[Values, Integers]:
        """Implement `Tile.nearest`."""
        return self.rank(Relevance.none(len(self.values)), RankingRequest(k=k)).nearest

    def at(self, rows: Integers, columns: Integers) -> Values:
        """Implement `Tile.at`."""
        values = self.values[rows, columns]
        if self.affine is None:
            return np.asarray(values)
        base, offset, factor = self.affine
        return np.asarray((base[rows] + offset[columns]) + np.float32(factor) * values)

    def columns(self, columns: Integers) -> Values:
        """Implement `Tile.columns`."""
        return np.asarray(self.finished()[:, columns])

    def largest(self) -> Values:
        """Implement `Tile.largest`."""
        values = self.finished()
        largest = np.empty(len(values), values.dtype)
        parallel_for(len(values), lambda rows: values[rows].max(axis=1, out=largest[rows]))
        return largest

    def histogram(self) -> "HostHistogram":
        """Implement `Tile.histogram`."""
        return HostHistogram()


class HostHistogram:
    """Histogram in CPU memory with separate counts for each thread.

    Pages without distances are never written, so they use no memory.
    """

    def __init__(self) -> None:
        num_threads = int(numba.get_num_threads())
        self.counts = np.zeros((num_threads, BINS), np.uint32)
        self.touched = np.zeros((num_threads, PAGES), np.bool_)
        self.total = np.zeros((PAGES, BINS // PAGES), np.int64)
        self.ever_touched = np.zeros(PAGES, np.bool_)
        self.pending = 0

    def begin(self, size: int) -> int:
        """Prepare for `size` more distances and return the number of threads that may count them."""
        if self.pending + size > np.iinfo(np.uint32).max:
            self._collect()
        self.pending += size
        return len(self.counts)

    def occupied(self) -> tuple[Integers, Integers]:
        """Implement `Histogram.occupied`."""
        self._collect()
        pages = np.flatnonzero(self.ever_touched)
        page, within = np.nonzero(self.total[pages])
        return counts_by_bin(pages[page] * self.total.shape[1] + within, self.total[pages[page], within])

    def _collect(self) -> None:
        for thread_counts, touched in zip(self.counts, self.touched, strict=True):
            counts = thread_counts.reshape(self.total.shape)
            self.total[touched] += counts[touched]
            counts[touched] = 0
            self.ever_touched |= touched
            touched[:] = False
        self.pending = 0


def _empty_lists(num_queries: int, k: int, dtype: Any) -> tuple[Values, Integers]:
    """Return empty lists of nearest entries (B, k): infinite distances and indices of -1."""
    return np.full((num_queries, k), np.inf, dtype), np.full((num_queries, k), -1, np.int64)


def _nearest_by_sorting(values: Values, k: int, relevance: Relevance) -> tuple[Values, Integers]:
    """Return the nearest entries of each query, as in `TileRanking`, by sorting row by row."""
    distances, indices = _empty_lists(len(values), k, values.dtype)
    junk, offsets = relevance.junk, relevance.junk_offsets

    def sort_rows(rows: slice) -> None:
        for i in range(rows.start, rows.stop):
            row = values[i].copy()
            row[junk[offsets[i] : offsets[i + 1]]] = np.inf
            listed = row.argsort(kind="stable")[:k]
            listed = listed[row[listed] < np.inf]
            distances[i, : len(listed)], indices[i, : len(listed)] = row[listed], listed

    parallel_for(len(values), sort_rows)
    return distances, indices
