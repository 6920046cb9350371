"""Distances of a query set to a gallery, given out in blocks of queries: the whole matrix never exists."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from reidlit.metrics._ranking.device_tiles import DeviceBlock
from reidlit.metrics._ranking.matmul import ROWS, full_precision, inner_products, least_columns
from reidlit.metrics._ranking.tiles import Affine, Block, HostBlock
from reidlit.metrics.inputs import as_distance_rows, squared_norms

METRICS = ("euclidean", "cosine")

# A product with more rows packs the gallery less often; beyond this it gains nothing, and the block leaves the cache.
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
        """The type of device that blocks are made on, such as "cpu"."""

    def block(self, start: int, stop: int) -> Block:
        """Distances of the queries from `start` to `stop`; valid until the next call."""


def block_rows(num_gallery: int, device: str = "cpu") -> int:
    """How many queries a block has, by default."""
    if device == "cpu":
        return int(np.clip(BLOCK_BYTES // (4 * num_gallery), 1, BLOCK_ROWS))
    return max(1, DEVICE_ENTRIES // num_gallery)


class Part(NamedTuple):
    """A block and the queries that it is of."""

    start: int
    stop: int
    block: Block


def parts(distances: Distances, size: int | None = None, what: str = "") -> Iterator[Part]:
    """Go through all queries in blocks.

    Args:
        distances: Whose.
        size: Queries at a time, by default as many as fit the memory that a block may take.
        what: Names the job in a progress bar, which shows on a terminal if it takes longer than some seconds.
    """
    num_queries, num_gallery = distances.shape
    if size is None:
        size = block_rows(num_gallery, distances.device)
        size = -(-num_queries // -(-num_queries // size))  # equal sizes, but for the last:
        size = -(-size // ROWS) * ROWS  # a product has as many rows anyway
    starts = tqdm(range(0, num_queries, size), desc=what, unit="block", delay=SHOW_AFTER, disable=None, leave=False)
    for start in starts:
        stop = min(start + size, num_queries)
        yield Part(start, stop, distances.block(start, stop))


class EmbeddingDistances:
    """Distances of embeddings, in fp32 whatever comes in, on the device of the gallery."""

    def __init__(self, query: Tensor, gallery: Tensor, metric: str = "euclidean") -> None:
        """Prepare the gallery's share of the work, which is done once for all blocks.

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

    def block(self, start: int, stop: int, first: int = 0) -> Block:
        """As in `Distances`; to the gallery from `first` on."""
        query, gallery = self.query[start:stop], self.gallery[first:]
        base, offset = self.base[start:stop], self.offset[first:]
        factor = -1.0 if self.cosine else -2.0
        if query.device.type == "cpu":
            affine = Affine(base.numpy(), offset.numpy(), factor)
            return HostBlock(self._product(query.numpy(), gallery.numpy()), affine)
        with full_precision(query.device.type):
            product = query @ gallery.T
        return DeviceBlock(product.mul_(factor).add_(base[:, None] + offset))

    def _product(self, query: NDArray[np.float32], gallery: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inner products (B, G), padded so that every size of block and share takes the same way through the library."""
        rows, dim = query.shape
        padded, columns = -(-rows // ROWS) * ROWS, max(len(gallery), least_columns(dim))
        if self._buffer.size < padded * columns:
            self._buffer = np.empty(padded * columns, np.float32)
        inner = self._buffer[: padded * columns].reshape(padded, columns)
        inner_products(_padded(query, padded), _padded(gallery, columns), inner)
        # Kernels want contiguous rows; only a small gallery has to be copied for that.
        return np.ascontiguousarray(inner[:rows, : len(gallery)])


class GivenDistances:
    """Distances of a matrix that the caller has; only a block at a time is copied, so it may be a memory map."""

    device = "cpu"

    def __init__(self, matrix: NDArray[Any] | Tensor) -> None:
        """Take (Q, G) of any real type."""
        self.matrix = matrix
        self.shape = (matrix.shape[0], matrix.shape[1])

    def block(self, start: int, stop: int) -> Block:
        """As in `Distances`."""
        return HostBlock(as_distance_rows(self.matrix, start, stop))


def pairwise_distance(query: Tensor, gallery: Tensor, metric: str = "euclidean") -> Tensor:
    """Distance of every query to every gallery embedding, in fp32 whatever comes in.

    The result is (Q, G): for large sets go through `parts(EmbeddingDistances(...))`.

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
    block = distances.block(0, len(query))
    return block.values if isinstance(block, DeviceBlock) else torch.from_numpy(block.finished())


def _padded(matrix: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    if len(matrix) == rows:
        return matrix
    whole = np.zeros((rows, matrix.shape[1]), np.float32)
    whole[: len(matrix)] = matrix
    return whole
