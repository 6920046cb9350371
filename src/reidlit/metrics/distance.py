"""Distances between queries and a gallery, computed in blocks of queries without storing the full matrix."""

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

# More rows per product amortize packing the gallery. Beyond this number, nothing is gained and the tile leaves the
# cache.
BLOCK_ROWS = 1008
BLOCK_BYTES = 384 * 2**20
# On a GPU, each distance needs up to 40 bytes while ranks are counted.
DEVICE_ENTRIES = 2**27
# A common offset of the embeddings is subtracted if its squared norm exceeds the mean squared deviation this many times.
# Below, rounding costs less than 1e-4 of a typical distance, and embeddings are used as they are.
LARGE_OFFSET = 1000.0
OFFSET_ROWS = 4096  # rows from which the offset is estimated
PROGRESS_DELAY = 5.0  # seconds until a progress bar is shown


class Distances(Protocol):
    """Distances of a query set to a gallery."""

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of queries and gallery entries, (Q, G)."""

    @property
    def device(self) -> str:
        """Type of the device that computes tiles, such as "cpu"."""

    def block(self, start: int, stop: int) -> Tile:
        """Return the distances of queries `start` to `stop - 1`; the tile is valid until the next call."""


def block_rows(num_gallery: int, device: str = "cpu") -> int:
    """Return the default number of queries in a block."""
    if device == "cpu":
        return int(np.clip(BLOCK_BYTES // (4 * num_gallery), 1, BLOCK_ROWS))
    return max(1, DEVICE_ENTRIES // num_gallery)


def iter_tiles(distances: Distances, size: int | None = None, what: str = "") -> Iterator[tuple[int, int, Tile]]:
    """Iterate over all queries in blocks.

    Args:
        distances: Distances of all queries.
        size: Number of queries per block. By default, it is chosen to limit memory.
        what: Label of the progress bar, which appears on a terminal after a few seconds.

    Yields:
        The first query of a block, the query after the last one, and their distances.
    """
    num_queries, num_gallery = distances.shape
    if size is None:
        num_blocks = math.ceil(num_queries / block_rows(num_gallery, distances.device))
        size = padded_rows(math.ceil(num_queries / num_blocks))  # blocks of equal size, except the last
    starts = tqdm(range(0, num_queries, size), desc=what, unit="block", delay=PROGRESS_DELAY, disable=None, leave=False)
    for start in starts:
        stop = min(start + size, num_queries)
        yield start, stop, distances.block(start, stop)


class EmbeddingDistances:
    """Distances between embeddings, computed in float32 on the device of the gallery.

    Args:
        query: (Q, D) query embeddings of any floating-point dtype.
        gallery: (G, D) gallery embeddings of any floating-point dtype.
        metric: One of `METRICS`, as in `pairwise_distance`.

    Raises:
        ValueError: If the metric is unknown.
    """

    def __init__(self, query: Tensor, gallery: Tensor, metric: str = "euclidean") -> None:
        if metric not in METRICS:
            raise ValueError(f"metric={metric!r} is invalid: must be one of {', '.join(METRICS)}.")
        self.cosine = metric == "cosine"
        gallery, query = gallery.detach(), query.detach().to(gallery.device)
        if not self.cosine and (offset := common_offset(gallery)) is not None:
            # Euclidean distances do not depend on it, but its square would take up the digits of float32.
            gallery, query = gallery - offset, query - offset
        self.gallery, self.query = gallery.float(), query.float()
        if self.cosine:
            self.query, self.gallery = functional.normalize(self.query), functional.normalize(self.gallery)
        self.base = torch.ones(len(query), device=gallery.device) if self.cosine else squared_norms(self.query)
        self.offset = torch.zeros(len(gallery), device=gallery.device) if self.cosine else squared_norms(self.gallery)
        self.shape = (len(query), len(gallery))
        self.device = gallery.device.type
        self._buffer = np.empty(0, np.float32)

    def block(self, start: int, stop: int, first: int = 0) -> Tile:
        """Return the tile as in `Distances`, with the gallery entries from `first` on."""
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
        """Compute inner products (B, G), padded so that the library rounds them alike for every block size."""
        rows, dim = query.shape
        padded, columns = padded_rows(rows), max(len(gallery), least_columns(dim))
        if self._buffer.size < padded * columns:
            self._buffer = np.empty(padded * columns, np.float32)
        inner = self._buffer[: padded * columns].reshape(padded, columns)
        inner_products(_padded(query, padded), _padded(gallery, columns), inner)
        # Kernels require contiguous rows. Only a small gallery is copied here.
        return np.ascontiguousarray(inner[:rows, : len(gallery)])


def common_offset(embeddings: Tensor) -> Tensor | None:
    """Return the (D,) mean of (N, D) embeddings if it is so large that float32 distances lose precision, else None."""
    rows = embeddings[:: max(1, len(embeddings) // OFFSET_ROWS)].double()
    if not len(rows):
        return None
    mean = rows.mean(0)
    deviation = (rows - mean).square().sum(1).mean()
    return mean.to(embeddings.dtype) if mean.square().sum() > LARGE_OFFSET * deviation > 0 else None


class MatrixDistances:
    """Distances stored in a matrix (Q, G) of any real dtype.

    Only one tile at a time is copied, so the matrix may be a memory map.
    """

    device = "cpu"

    def __init__(self, matrix: NDArray[Any] | Tensor) -> None:
        self.matrix = matrix
        self.shape = (matrix.shape[0], matrix.shape[1])

    def block(self, start: int, stop: int) -> Tile:
        """Return the tile as in `Distances`."""
        return HostTile(as_distance_rows(self.matrix, start, stop))


def pairwise_distance(query: Tensor, gallery: Tensor, metric: str = "euclidean") -> Tensor:
    """Compute the distance between every query and every gallery embedding in float32.

    For large sets, iterate over `iter_tiles(EmbeddingDistances(...))` instead: it never stores the (Q, G) matrix.

    Args:
        query: (Q, D) query embeddings of any floating-point dtype.
        gallery: (G, D) gallery embeddings on the device of `query`.
        metric: `"euclidean"` for the squared Euclidean distance, or `"cosine"` for 1 - cosine similarity. No square
            root is taken, because it could round different distances to the same number. Rounding can make the distance
            between near-duplicates slightly negative.

    Returns:
        (Q, G) float32 distances on the device of the gallery, without gradient.

    Raises:
        ValueError: If the metric is unknown or a shape is invalid.

    Example:
        >>> import torch
        >>> from reidlit.metrics import pairwise_distance
        >>> query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> pairwise_distance(query, gallery)
        tensor([[0., 5.]])
        >>> pairwise_distance(query, gallery, metric="cosine")
        tensor([[0., 1.]])
    """
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query has shape {tuple(query.shape)} and gallery has shape {tuple(gallery.shape)}: must be (Q, D) and "
            "(G, D) with the same D."
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
