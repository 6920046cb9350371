"""Tiles of distances on a GPU, ranked by PyTorch operations with the same results as `HostTile`."""

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
    """Tile of distances (B, G) float32 without NaN on any PyTorch device; only results are copied to the CPU."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def rank(self, relevance: Relevance, request: RankingRequest) -> TileRanking:
        """Implement `Tile.rank`."""
        groups, k, histogram = request
        if isinstance(histogram, DeviceHistogram):
            histogram.add(self.values)
        elif histogram is not None:
            raise TypeError("DeviceTile requires a DeviceHistogram.")
        keys = stable_keys(self.values)
        rows, matches = self._tensor(relevance.match_rows), self._tensor(relevance.matches)
        match_keys = keys[rows, matches]
        group_ranks = match_keys[:0] if groups is None else self._group_ranks(keys, rows, matches, match_keys, groups)
        keys[self._tensor(relevance.junk_rows), self._tensor(relevance.junk)] = LAST  # after every match
        ranks = ranks_among(keys, rows, match_keys)
        return TileRanking(ranks.cpu().numpy(), group_ranks.cpu().numpy(), self._nearest(keys, k))

    def nearest(self, k: int) -> tuple[Values, Integers]:
        """Implement `Tile.nearest`."""
        return self._nearest(stable_keys(self.values), k)

    def at(self, rows: Integers, columns: Integers) -> Values:
        """Implement `Tile.at`."""
        return np.asarray(self.values[self._tensor(rows), self._tensor(columns)].cpu().numpy())

    def columns(self, columns: Integers) -> Values:
        """Implement `Tile.columns`."""
        return np.asarray(self.values[:, self._tensor(columns)].cpu().numpy())

    def largest(self) -> Values:
        """Implement `Tile.largest`."""
        return np.asarray(self.values.amax(dim=1).cpu().numpy())

    def finished(self) -> Values:
        """Implement `Tile.finished`."""
        return np.asarray(self.values.cpu().numpy())

    def histogram(self) -> "DeviceHistogram":
        """Implement `Tile.histogram`."""
        return DeviceHistogram(self.values.device)

    def _group_ranks(
        self, keys: Tensor, rows: Tensor, matches: Tensor, match_keys: Tensor, groups: GalleryGroups
    ) -> Tensor:
        group = self._tensor(groups.group)[matches]
        ranks = torch.empty_like(match_keys)
        for label in range(len(groups.labels)):
            columns = self._tensor(groups.order.astype(np.int64)[groups.offsets[label] : groups.offsets[label + 1]])
            in_group = group == label
            ranks[in_group] = ranks_among(keys[:, columns], rows[in_group], match_keys[in_group])
        return ranks

    def _nearest(self, keys: Tensor, k: int) -> tuple[Values, Integers]:
        """Return the nearest entries from keys (B, G), which are LAST for junk; modifies the keys."""
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
    """Histogram of distances with counts on the device."""

    def __init__(self, device: torch.device) -> None:
        self.total = torch.zeros(BINS, dtype=torch.int64, device=device)

    def add(self, values: Tensor) -> None:
        """Add distances (B, G) float32."""
        leading = (values.view(torch.int32) >> SHIFT) & (BINS - 1)
        self.total += torch.bincount(leading.reshape(-1), minlength=BINS)

    def occupied(self) -> tuple[Integers, Integers]:
        """Implement `Histogram.occupied`."""
        leading = self.total.nonzero().squeeze(1)
        return counts_by_bin(leading.cpu().numpy(), self.total[leading].cpu().numpy())


def ordered_bits(values: Tensor) -> Tensor:
    """Map float32 values to int32 integers in the same order; both zeros have the same integer."""
    bits = (values + 0.0).view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def stable_keys(values: Tensor) -> Tensor:
    """Return int64 keys (B, G) that are unique within a row and sort like a stable sort of the row."""
    columns = torch.arange(values.shape[1], device=values.device)
    return (ordered_bits(values).long() << 32) + columns


def ranks_among(keys: Tensor, rows: Tensor, query_keys: Tensor) -> Tensor:
    """Count the keys of a row that are less than or equal to each query key.

    Args:
        keys: (B, G) int64 keys.
        rows: (M,) int64 row of each query key, ascending.
        query_keys: (M,) int64 query keys, less than `LAST`.

    Returns:
        (M,) int64 counts.
    """
    if len(query_keys) == 0:
        return torch.empty_like(query_keys)
    order = query_keys.argsort()
    order = order[rows[order].argsort(stable=True)]
    sizes = rows.bincount(minlength=len(keys))
    slot = torch.arange(len(query_keys), device=query_keys.device) - (sizes.cumsum(0) - sizes)[rows]
    width = int(sizes.max())
    table = torch.full((len(keys), width), LAST, device=query_keys.device)
    table[rows, slot] = query_keys[order]  # `rows` is already sorted
    bucket = torch.searchsorted(table, keys)  # number of the row's query keys that are less than each key
    bucket += torch.arange(len(keys), device=query_keys.device)[:, None] * (width + 1)
    counts = bucket.reshape(-1).bincount(minlength=len(keys) * (width + 1)).view(len(keys), width + 1)
    ranks = torch.empty_like(query_keys)
    ranks[order] = counts.cumsum(1)[rows, slot]
    return ranks
