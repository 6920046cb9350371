"""Tiles of distances that stay on their device: the results of `HostTile` by PyTorch operations."""

import numpy as np
import torch
from torch import Tensor

from reidlit.metrics._ranking.histogram import BINS, counts_by_bin
from reidlit.metrics._ranking.match_kernels import SHIFT
from reidlit.metrics._ranking.relevance import Relevance
from reidlit.metrics._ranking.tiles import GalleryGroups, RankingRequest, TileRanking, Values
from reidlit.metrics._ranking.types import Integers

LAST = torch.iinfo(torch.int64).max


class DeviceTile:
    """A tile in the memory of a GPU, or of any device of PyTorch; only requested results leave it."""

    def __init__(self, values: Tensor) -> None:
        """Take over distances (B, G) float32 without NaN."""
        self.values = values

    def rank(self, relevance: Relevance, request: RankingRequest) -> TileRanking:
        """As in `Tile`."""
        groups, k, histogram = request
        if isinstance(histogram, DeviceHistogram):
            histogram.add(self.values)
        elif histogram is not None:
            raise TypeError("a tile on a device counts in a histogram on that device")
        keys = stable_keys(self.values)
        rows, matches = self._tensor(relevance.match_rows), self._tensor(relevance.matches)
        own = keys[rows, matches]
        group_ranks = own[:0] if groups is None else self._group_ranks(keys, rows, matches, own, groups)
        keys[self._tensor(relevance.junk_rows), self._tensor(relevance.junk)] = LAST  # behind every match
        ranks = ranks_among(keys, rows, own)
        return TileRanking(ranks.cpu().numpy(), group_ranks.cpu().numpy(), self._nearest(keys, k))

    def nearest(self, k: int) -> tuple[Values, Integers]:
        """As in `Tile`."""
        return self._nearest(stable_keys(self.values), k)

    def at(self, rows: Integers, columns: Integers) -> Values:
        """As in `Tile`."""
        return np.asarray(self.values[self._tensor(rows), self._tensor(columns)].cpu().numpy())

    def columns(self, columns: Integers) -> Values:
        """As in `Tile`."""
        return np.asarray(self.values[:, self._tensor(columns)].cpu().numpy())

    def largest(self) -> Values:
        """As in `Tile`."""
        return np.asarray(self.values.amax(dim=1).cpu().numpy())

    def finished(self) -> Values:
        """As in `Tile`."""
        return np.asarray(self.values.cpu().numpy())

    def histogram(self) -> "DeviceHistogram":
        """As in `Tile`."""
        return DeviceHistogram(self.values.device)

    def _group_ranks(self, keys: Tensor, rows: Tensor, matches: Tensor, own: Tensor, groups: GalleryGroups) -> Tensor:
        group = self._tensor(groups.group)[matches]
        ranks = torch.empty_like(own)
        for label in range(len(groups.labels)):
            columns = self._tensor(groups.order.astype(np.int64)[groups.offsets[label] : groups.offsets[label + 1]])
            of_group = group == label
            ranks[of_group] = ranks_among(keys[:, columns], rows[of_group], own[of_group])
        return ranks

    def _nearest(self, keys: Tensor, k: int) -> tuple[Values, Integers]:
        """Return the nearest entries from keys (B, G) that are LAST for what is left out; the keys are changed."""
        keys[self.values == torch.inf] = LAST
        size = min(k, keys.shape[1])
        smallest = keys.topk(size, dim=1, largest=False).values
        is_absent = smallest == LAST
        index = (smallest & 0xFFFFFFFF).masked_fill(is_absent, 0)
        distance = self.values.gather(1, index).masked_fill(is_absent, torch.inf)
        index = index.masked_fill(is_absent, -1)
        padding = ((0, 0), (0, k - size))
        return (
            np.pad(distance.cpu().numpy(), padding, constant_values=np.inf),
            np.pad(index.cpu().numpy(), padding, constant_values=-1),
        )

    def _tensor(self, values: Integers) -> Tensor:
        return torch.from_numpy(values.copy()).to(self.values.device)


class DeviceHistogram:
    """Counts on the device."""

    def __init__(self, device: torch.device) -> None:
        """Start empty."""
        self.total = torch.zeros(BINS, dtype=torch.int64, device=device)

    def add(self, values: Tensor) -> None:
        """Count distances (B, G) float32."""
        leading = (values.view(torch.int32) >> SHIFT) & (BINS - 1)
        self.total += torch.bincount(leading.reshape(-1), minlength=BINS)

    def occupied(self) -> tuple[Integers, Integers]:
        """As in `Histogram`."""
        leading = self.total.nonzero().squeeze(1)
        return counts_by_bin(leading.cpu().numpy(), self.total[leading].cpu().numpy())


def ordered_bits(values: Tensor) -> Tensor:
    """Integers int32 that ascend with float32 values; the same integer for both zeros."""
    bits = (values + 0.0).view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def stable_keys(values: Tensor) -> Tensor:
    """Different integers (B, G) int64 a row whose order is that of a stable sort of the row."""
    columns = torch.arange(values.shape[1], device=values.device)
    return (ordered_bits(values).long() << 32) + columns


def ranks_among(keys: Tensor, rows: Tensor, own: Tensor) -> Tensor:
    """Count the keys of a row that are not above a given one.

    Args:
        keys: (B, G) int64.
        rows: (M,) int64, ascending, the row that each given key belongs to.
        own: (M,) int64, given keys below `LAST`.

    Returns:
        (M,) int64.
    """
    if len(own) == 0:
        return torch.empty_like(own)
    order = own.argsort()
    order = order[rows[order].argsort(stable=True)]
    sizes = rows.bincount(minlength=len(keys))
    slot = torch.arange(len(own), device=own.device) - (sizes.cumsum(0) - sizes)[rows]
    width = int(sizes.max())
    table = torch.full((len(keys), width), LAST, device=own.device)
    table[rows, slot] = own[order]  # `rows` is ascending, so it is its own sorted version
    bucket = torch.searchsorted(table, keys)  # how many of the row's given keys are below each key
    bucket += torch.arange(len(keys), device=own.device)[:, None] * (width + 1)
    added = bucket.reshape(-1).bincount(minlength=len(keys) * (width + 1)).view(len(keys), width + 1)
    ranks = torch.empty_like(own)
    ranks[order] = added.cumsum(1)[rows, slot]
    return ranks
