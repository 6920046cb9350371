"""A block of distances, a few queries against the whole gallery, and what is asked of it.

`HostBlock` answers with the Numba kernels; `device_block.DeviceBlock` does the same on a GPU, where the distances stay.
"""

from typing import Any, NamedTuple, Protocol, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from reidlit.metrics._ranking import match_kernels as block_kernels
from reidlit.metrics._ranking import row_kernels
from reidlit.metrics._ranking.histogram import BINS, PAGES, ascending
from reidlit.metrics._ranking.threads import share
from reidlit.metrics._ranking.types import Integers
from reidlit.metrics.protocols import Relevance

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
# What the kernel is given where nothing is asked.
FINISHED = Affine(np.empty(0, np.float32), np.empty(0, np.float32), 1.0)
NO_GROUPS = (np.empty(0, np.uint32), *((np.empty(0, np.int64),) * 3))
NO_COUNTS = (np.empty(0, np.uint32), np.empty(0, np.bool_))


class Groups(NamedTuple):
    """The gallery in groups, such as cameras: see `block_kernels.group_ranks_in_row`."""

    order: NDArray[np.uint32]  # read once a distance, so half as wide as usual
    place: Integers
    group: Integers
    offsets: Integers
    labels: Integers

    @classmethod
    def of(cls, labels: Integers) -> "Groups":
        """Group (G,) labels, in ascending order of label."""
        found, group = np.unique(labels, return_inverse=True)
        order = np.argsort(group, kind="stable").astype(np.uint32)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        return cls(order, place, group, np.concatenate([[0], np.cumsum(np.bincount(group))]), found)


class Questions(NamedTuple):
    """What is asked of each block besides the ranks of the matches.

    Attributes:
        groups: To rank the matches within.
        k: Length of the lists of nearest entries.
        histogram: To count all distances in.
    """

    groups: Groups | None = None
    k: int = 0
    histogram: "Histogram | None" = None


class Answers(NamedTuple):
    """What a block answers to `Questions`.

    Attributes:
        match_ranks: (M,) 1-based rank of each match among the gallery without the junk, in the order of the matches.
        group_ranks: (M,) 1-based rank of each match among the gallery entries of its group; empty if not asked for.
        nearest: Distances and gallery indices (B, k) of the nearest entries that are not junk; inf and -1 where there
            are fewer.
    """

    match_ranks: Integers
    group_ranks: Integers
    nearest: tuple[Values, Integers]


class Answered(NamedTuple):
    """A block and what it answered, for whoever collects scores.

    Attributes:
        rows: (B,) its queries, as rows of the query set.
        block: The block.
        relevance: Of the gallery for its queries.
        answers: What it answered.
    """

    rows: Integers
    block: "Block"
    relevance: Relevance
    answers: Answers


class Block(Protocol):
    """Distances (B, G) of a block of queries."""

    def answer(self, relevance: Relevance, questions: Questions) -> Answers:
        """All that is asked, in one go."""

    def nearest(self, k: int) -> tuple[Values, Integers]:
        """Distances and gallery indices (B, k) of the nearest entries, as in `Answers`."""

    def at(self, rows: Integers, columns: Integers) -> Values:
        """Distances (N,) at some places."""

    def columns(self, columns: Integers) -> Values:
        """Distances (B, N) to some gallery entries."""

    def largest(self) -> Values:
        """(B,) the largest distance of each query."""

    def finished(self) -> Values:
        """All distances (B, G)."""

    def histogram(self) -> "Histogram":
        """An empty histogram that blocks like this one can count in."""


class Histogram(Protocol):
    """How many distances fell into each bin of `bins`."""

    def occupied(self) -> tuple[Integers, Integers]:
        """Bins (N,) that hold a distance, ascending, and how many each."""


class HostBlock:
    """A block in the memory of the CPU."""

    def __init__(self, values: Values, affine: Affine | None = None) -> None:
        """Take over a block.

        Args:
            values: (B, G) float32 or float64 distances without NaN, or inner products if `affine` is given.
            affine: What is still to be done to `values`: in place, once all of them are asked for.
        """
        self.values = values
        self.affine = affine

    def finished(self) -> Values:
        """As in `Block`."""
        if self.affine is not None:
            base, offset, factor = self.affine
            share(len(base), lambda own: row_kernels.finish_rows(self.values[own], base[own], offset, factor))
            self.affine = None
        return self.values

    def answer(self, relevance: Relevance, questions: Questions) -> Answers:
        """As in `Block`."""
        groups, k, histogram = questions
        if histogram is not None and not isinstance(histogram, HostHistogram):
            raise TypeError("a block on the CPU counts in a histogram on the CPU")
        count = int(numba.get_num_threads()) if histogram is None else histogram.begin(self.values.size)
        listed = k if k <= SHORT_LIST else 0
        ranks = np.empty(len(relevance.matches), np.int64)
        group_ranks = np.empty(0 if groups is None else len(ranks), np.int64)
        distances = np.full((len(self.values), listed), np.inf, self.values.dtype)
        indices = np.full((len(self.values), listed), -1, np.int64)

        def work(parts: slice) -> None:
            for part in range(parts.start, parts.stop):
                counts, touched = NO_COUNTS if histogram is None else (histogram.parts[part], histogram.touched[part])
                block_kernels.answer(
                    self.values,
                    len(self.values) * part // count,
                    len(self.values) * (part + 1) // count,
                    self.affine or FINISHED,
                    (relevance.matches, relevance.match_offsets, relevance.junk, relevance.junk_offsets),
                    ranks,
                    NO_GROUPS if groups is None else (groups.order, groups.place, groups.group, groups.offsets),
                    group_ranks,
                    counts,
                    touched,
                    distances,
                    indices,
                )

        share(count, work)
        if k > SHORT_LIST:
            distances, indices = _by_sorting(self.finished(), k, relevance)
        return Answers(ranks, group_ranks, (distances, indices))

    def nearest(self, k: int) -> tuple[Values, Integers]:
        """As in `Block`."""
        return self.answer(nothing_relevant(len(self.values)), Questions(k=k)).nearest

    def at(self, rows: Integers, columns: Integers) -> Values:
        """As in `Block`."""
        values = self.values[rows, columns]
        if self.affine is None:
            return np.asarray(values)
        base, offset, factor = self.affine
        return np.asarray((base[rows] + offset[columns]) + np.float32(factor) * values)

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

    def begin(self, size: int) -> int:
        """Make room for `size` distances more, and say how many threads may count them, each in its part."""
        if self.pending + size > np.iinfo(np.uint32).max:
            self._collect()
        self.pending += size
        return len(self.parts)

    def occupied(self) -> tuple[Integers, Integers]:
        """As in `Histogram`."""
        self._collect()
        pages = np.flatnonzero(self.ever_touched)
        page, within = np.nonzero(self.total[pages])
        return in_order(pages[page] * self.total.shape[1] + within, self.total[pages[page], within])

    def _collect(self) -> None:
        for part, touched in zip(self.parts, self.touched, strict=True):
            counts = part.reshape(self.total.shape)
            self.total[touched] += counts[touched]
            counts[touched] = 0
            self.ever_touched |= touched
            touched[:] = False
        self.pending = 0


def in_order(leading: Integers, counts: Integers) -> tuple[Integers, Integers]:
    """Bins (N,), ascending, and their counts (N,), from counts by leading bits of the distances."""
    bins = ascending(leading)
    order = bins.argsort(kind="stable")  # nearly sorted
    bins, counts = bins[order], counts[order]
    first = np.flatnonzero(np.diff(bins, prepend=-1))  # both zeros share a bin
    return bins[first], np.add.reduceat(counts, first) if len(first) else counts


def nothing_relevant(num_queries: int) -> Relevance:
    """No matches and no junk."""
    nothing, offsets = np.empty(0, np.int64), np.zeros(num_queries + 1, np.int64)
    return Relevance(nothing, offsets, nothing, offsets)


def _by_sorting(values: Values, k: int, relevance: Relevance) -> tuple[Values, Integers]:
    """The nearest of each query, as in `Answers`, a row at a time."""
    distances = np.full((len(values), k), np.inf, values.dtype)
    indices = np.full((len(values), k), -1, np.int64)
    junk, offsets = relevance.junk, relevance.junk_offsets

    def work(own: slice) -> None:
        for i in range(own.start, own.stop):
            row = values[i].copy()
            row[junk[offsets[i] : offsets[i + 1]]] = np.inf
            listed = row.argsort(kind="stable")[:k]
            listed = listed[row[listed] < np.inf]
            distances[i, : len(listed)], indices[i, : len(listed)] = row[listed], listed

    share(len(values), work)
    return distances, indices
