"""Distances of a query set to a gallery, computed in blocks of queries: the whole matrix never exists."""

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from reidlit.metrics._ranking.device_tiles import DeviceTile
from reidlit.metrics._ranking.matmul import full_precision, inner_products, least_columns, padded_rows
from reidlit.metrics._ranking.tiles import Affine, HostTile, Tile
from reidlit.metrics.inputs import as_distance_rows, squared_norms

METRICS = ("euclidean", "cosine")

# A product with more rows packs the gallery less often; beyond this it gains nothing, and the tile leaves the cache.
BLOCK_ROWS = 1008
BLOCK_BYTES = 384 * 2**20
# On a device each distance takes up to 40 bytes while its ranks are counted.
DEVICE_ENTRIES = 2**27
SHOW_AFTER = 5.0  # seconds


class Distances(Protocol):
    """Distances of a query set to a gallery."""

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, G)."""

    @property
    def device(self) -> str:
        """The type of device that tiles are made on, such as "cpu"."""

    def block(self, start: int, stop: int) -> Tile:
        """Return the distances of the queries from `start` to before `stop`; valid until the next call."""


def block_rows(num_gallery: int, device: str = "cpu") -> int:
    """Return the default number of queries in a block."""
    if device == "cpu":
        return int(np.clip(BLOCK_BYTES // (4 * num_gallery), 1, BLOCK_ROWS))
    return max(1, DEVICE_ENTRIES // num_gallery)


def iter_tiles(distances: Distances, size: int | None = None, what: str = "") -> Iterator[tuple[int, int, Tile]]:
    """Iterate over all queries in blocks.

    Args:
        distances: Distances of all queries.
        size: Queries in a block, by default as many as fit the memory that a tile may take.
        what: Name of the job in a progress bar, which shows on a terminal if the job takes longer than some seconds.

    Yields:
        The first query of a block, the query after its last, and their distances.
    """
    num_queries, num_gallery = distances.shape
    if size is None:
        num_blocks = math.ceil(num_queries / block_rows(num_gallery, distances.device))
        size = padded_rows(math.ceil(num_queries / num_blocks))  # blocks of equal size, except for the last
    starts = tqdm(range(0, num_queries, size), desc=what, unit="block", delay=SHOW_AFTER, disable=None, leave=False)
    for start in starts:
        stop = min(start + size, num_queries)
        yield start, stop, distances.block(start, stop)


class EmbeddingDistances:
    """Distances of embeddings, in fp32 whatever comes in, on the device of the gallery."""

    def __init__(self, query: Tensor, gallery: Tensor, metric: str = "euclidean") -> None:
        """Prepare what all tiles share.

        Args:
            query: (Q, D).
            gallery: (G, D).
            metric: One of `METRICS`, as in `pairwise_distance`.

        Raises:
            ValueError: The metric is unknown.
        """
        if metric not in METRICS:
            raise ValueError(f"metric={metric!r} is unknown; choose one of {', '.join(METRICS)}")
        self.cosine = metric == "cosine"
        self.gallery = gallery.detach().float()
        self.query = query.detach().float().to(self.gallery.device)
        if self.cosine:
            self.query, self.gallery = functional.normalize(self.query), functional.normalize(self.gallery)
        self.base = torch.ones(len(query), device=gallery.device) if self.cosine else squared_norms(self.query)
        self.offset = torch.zeros(len(gallery), device=gallery.device) if self.cosine else squared_norms(self.gallery)
        self.shape = (len(query), len(gallery))
        self.device = gallery.device.type
        self._buffer = np.empty(0, np.float32)

    def block(self, start: int, stop: int, first: int = 0) -> Tile:
        """As in `Distances`; to the gallery from `first` on."""
        query, gallery = self.query[start:stop], self.gallery[first:]
        base, offset = self.base[start:stop], self.offset[first:]
        factor = -1.0 if self.cosine else -2.0
        if query.device.type == "cpu":
            affine = Affine(base.numpy(), offset.numpy(), factor)
            return HostTile(self._product(query.numpy(), gallery.numpy()), affine)
        with full_precision(query.device.type):
            product = query @ gallery.T
        return DeviceTile(product.mul_(factor).add_(base[:, None] + offset))

    def _product(self, query: NDArray[np.float32], gallery: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inner products (B, G), padded so that every size of block and slice takes the same way through the library."""
        rows, dim = query.shape
        padded, columns = padded_rows(rows), max(len(gallery), least_columns(dim))
        if self._buffer.size < padded * columns:
            self._buffer = np.empty(padded * columns, np.float32)
        inner = self._buffer[: padded * columns].reshape(padded, columns)
        inner_products(_padded(query, padded), _padded(gallery, columns), inner)
        # Kernels want contiguous rows; only a small gallery has to be copied for that.
        return np.ascontiguousarray(inner[:rows, : len(gallery)])


class MatrixDistances:
    """Distances of a matrix that the caller has; only a tile at a time is copied, so it may be a memory map."""

    device = "cpu"

    def __init__(self, matrix: NDArray[Any] | Tensor) -> None:
        """Take (Q, G) of any real type."""
        self.matrix = matrix
        self.shape = (matrix.shape[0], matrix.shape[1])

    def block(self, start: int, stop: int) -> Tile:
        """As in `Distances`."""
        return HostTile(as_distance_rows(self.matrix, start, stop))


def pairwise_distance(query: Tensor, gallery: Tensor, metric: str = "euclidean") -> Tensor:
    """Distance of every query to every gallery embedding, in fp32 whatever comes in.

    The result is (Q, G): for large sets iterate over `iter_tiles(EmbeddingDistances(...))`.

    Args:
        query: (Q, D).
        gallery: (G, D), on the device of `query`.
        metric: "euclidean" for the squared Euclidean distance `|q|^2 + |g|^2 - 2qg`, "cosine" for `1 - cos`. The
            square root is left out: it changes no rank, but it would round different distances to the same number.
            Rounding can make the distance of near-duplicates slightly negative.

    Returns:
        (Q, G) float32, on the same device, without a gradient.

    Raises:
        ValueError: The metric is unknown or the shapes do not fit.
    """
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query and gallery must be (Q, D) and (G, D), got {tuple(query.shape)} and {tuple(gallery.shape)}"
        )
    distances = EmbeddingDistances(query, gallery, metric)
    if 0 in distances.shape:
        return torch.empty(distances.shape, device=gallery.device)
    tile = distances.block(0, len(query))
    return tile.values if isinstance(tile, DeviceTile) else torch.from_numpy(tile.finished())


def _padded(matrix: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    if len(matrix) == rows:
        return matrix
    padded = np.zeros((rows, matrix.shape[1]), np.float32)
    padded[: len(matrix)] = matrix
    return padded
