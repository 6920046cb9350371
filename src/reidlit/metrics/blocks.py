"""A block of distances, a few queries against the whole gallery, and what is asked of it.

`HostBlock` answers with the Numba kernels; `device_block.DeviceBlock` does the same on a GPU, where the distances stay.
"""

from typing import Any, NamedTuple, Protocol, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from reidlit.metrics import kernels
from reidlit.metrics.bins import BINS, PAGES, SHIFT
from reidlit.metrics.kernels import Integers
from reidlit.metrics.protocol import Relevance
from reidlit.metrics.workers import share

Values: TypeAlias = NDArray[Any]


class Affine(NamedTuple):
    """What makes distances of inner products: `(base[i] + offset[j]) + factor * product[i, j]`.

    `base` is (B,) float32, a number a query, `offset` (G,) float32, a number a gallery entry.
    """

    base: Values
    offset: Values
    factor: float


# Longer lists are sorted: inserting into them, one entry after the other, would take longer.
SHORT_LIST = 1024
NOTHING = Affine(np.empty(0, np.float32), np.empty(0, np.float32), 1.0)


class Groups(NamedTuple):
    """The gallery in groups, such as cameras: see `kernels.group_ranks`."""

    order: Integers
    place: Integers
    group: Integers
    offsets: Integers
    labels: Integers

    @classmethod
    def of(cls, labels: Integers) -> "Groups":
        """Group (G,) labels, in ascending order of label."""
        found, group = np.unique(labels, return_inverse=True)
        order = np.argsort(group, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return cls(order, place, group, np.concatenate([[0], np.cumsum(np.bincount(group))]), found)


class Block(Protocol):
    """Distances (B, G) of a block of queries."""

    def match_ranks(self, relevance: Relevance) -> Integers:
        """1-based rank of each match among the gallery without the junk, in the order of the matches."""

    def group_ranks(self, relevance: Relevance, groups: Groups) -> Integers:
        """1-based rank of each match among the gallery entries of its group, in the order of the matches."""

    def nearest(self, k: int, relevance: Relevance | None = None) -> tuple[Values, Integers]:
        """Distances and gallery indices (B, k) of the nearest entries that are not junk; inf and -1 where there are fewer."""

    def at(self, rows: Integers, columns: Integers) -> Values:
        """Distances (N,) at some places."""

    def columns(self, columns: Integers) -> Values:
        """Distances (B, N) to some gallery entries."""

    def largest(self) -> Values:
        """(B,) the largest distance of each query."""

    def finished(self) -> Values:
        """All distances (B, G)."""

    def histogram(self) -> "Histogram":
        """An empty histogram that can `add` blocks like this one."""


class Histogram(Protocol):
    """How many distances fell into each bin of `bins`."""

    def add(self, block: Any) -> None:
        """Count a block's distances."""

    def occupied(self) -> tuple[Integers, Integers]:
        """Bins (N,) that hold a distance, ascending, and how many each."""


class HostBlock:
    """A block in the memory of the CPU."""

    def __init__(self, values: Values, affine: Affine | None = None) -> None:
        """Take over a block.

        Args:
            values: (B, G) float32 or float64 distances without NaN, or inner products if `affine` is given. Changed in
                place.
            affine: What is still to be done to `values`; done on first use, while a row is in the cache.
        """
        self.values = values
        self.affine = affine

    def finished(self) -> Values:
        """As in `Block`."""
        if self.affine is not None:
            base, offset, factor = self.affine
            share(len(base), lambda own: kernels.finish_rows(self.values[own], base[own], offset, factor))
            self.affine = None
        return self.values

    def match_ranks(self, relevance: Relevance) -> Integers:
        """As in `Block`."""
        matches, match_offsets, junk, junk_offsets = relevance
        base, offset, factor = self.affine or NOTHING
        ranks = np.empty(len(matches), np.int64)

        def work(own: slice) -> None:
            kernels.match_ranks(
                *(self.values[own], matches, match_offsets[_ends(own)], junk, junk_offsets[_ends(own)]),
                *(base[own], offset, factor, self.affine is not None, ranks),
            )

        share(len(self.values), work)
        self.affine = None
        return ranks

    def group_ranks(self, relevance: Relevance, groups: Groups) -> Integers:
        """As in `Block`."""
        values, (matches, offsets) = self.finished(), relevance[:2]
        ranks = np.empty(len(matches), np.int64)
        share(
            len(values),
            lambda own: kernels.group_ranks(values[own], matches, offsets[_ends(own)], *groups[:4], ranks),
        )
        return ranks

    def nearest(self, k: int, relevance: Relevance | None = None) -> tuple[Values, Integers]:
        """As in `Block`."""
        values = self.finished()
        if relevance is None:
            junk, offsets = np.empty(0, np.int64), np.zeros(len(values) + 1, np.int64)
        else:
            junk, offsets = relevance.junk, relevance.junk_offsets
        if k > SHORT_LIST:
            return _by_sorting(values, k, junk, offsets)
        distances = np.full((len(values), k), np.inf, values.dtype)
        indices = np.full((len(values), k), -1, np.int64)
        share(
            len(values),
            lambda own: kernels.nearest(values[own], junk, offsets[_ends(own)], distances[own], indices[own]),
        )
        return distances, indices

    def at(self, rows: Integers, columns: Integers) -> Values:
        """As in `Block`."""
        return np.asarray(self.finished()[rows, columns])

    def columns(self, columns: Integers) -> Values:
        """As in `Block`."""
        return np.asarray(self.finished()[:, columns])

    def largest(self) -> Values:
        """As in `Block`."""
        values = self.finished()
        largest = np.empty(len(values), values.dtype)
        share(len(values), lambda own: values[own].max(axis=1, out=largest[own]))
        return largest

    def histogram(self) -> "HostHistogram":
        """As in `Block`."""
        return HostHistogram()


class HostHistogram:
    """Counts with one histogram a thread."""

    def __init__(self) -> None:
        """Start empty. Pages that no distance falls into are never touched, so they cost no memory."""
        count = int(numba.get_num_threads())
        self.parts = np.zeros((count, BINS), np.uint32)
        self.touched = np.zeros((count, PAGES), np.bool_)
        self.total = np.zeros((PAGES, BINS // PAGES), np.int64)
        self.ever_touched = np.zeros(PAGES, np.bool_)
        self.pending = 0

    def add(self, block: HostBlock) -> None:
        """As in `Histogram`."""
        values, count = block.finished(), len(self.parts)
        if self.pending + values.size > np.iinfo(np.uint32).max:
            self._collect()
        self.pending += values.size

        def work(own: slice) -> None:
            for part in range(own.start, own.stop):
                kernels.count_bins(values[part::count], self.parts[part], self.touched[part], SHIFT)

        share(count, work)

    def occupied(self) -> tuple[Integers, Integers]:
        """As in `Histogram`."""
        self._collect()
        pages = np.flatnonzero(self.ever_touched)
        page, within = np.nonzero(self.total[pages])
        index = pages[page] * self.total.shape[1] + within
        return index, self.total.reshape(-1)[index]

    def _collect(self) -> None:
        for part, touched in zip(self.parts, self.touched, strict=True):
            counts = part.reshape(self.total.shape)
            self.total[touched] += counts[touched]
            counts[touched] = 0
            self.ever_touched |= touched
            touched[:] = False
        self.pending = 0


def _by_sorting(values: Values, k: int, junk: Integers, offsets: Integers) -> tuple[Values, Integers]:
    """What `HostBlock.nearest` gives, a row at a time."""
    distances = np.full((len(values), k), np.inf, values.dtype)
    indices = np.full((len(values), k), -1, np.int64)

    def work(own: slice) -> None:
        for i in range(own.start, own.stop):
            row = values[i].copy()
            row[junk[offsets[i] : offsets[i + 1]]] = np.inf
            listed = row.argsort(kind="stable")[:k]
            listed = listed[row[listed] < np.inf]
            distances[i, : len(listed)], indices[i, : len(listed)] = row[listed], listed

    share(len(values), work)
    return distances, indices


def _ends(rows: slice) -> slice:
    """Where the offsets of some rows are, which are one more."""
    return slice(rows.start, rows.stop + 1)
