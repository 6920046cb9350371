"""Matrix products with reproducible rounding, by the fastest library that provides it."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from reidlit.metrics._ranking.threads import parallel_for

Matrix: TypeAlias = NDArray[np.float32]
Product: TypeAlias = Callable[[Matrix, Matrix, Matrix], None]

# Libraries compute 12 or 16 rows at once. They round differently in the last rows if these do not fill such a block,
# and in small products. Therefore, the number of rows is a multiple of both, and products are never small.
ROWS = 48
LEAST_COLUMNS = 256
LARGE = 2_000_000
# The thread limit applies to the process. Without a lock, two threads that set and restore it could leave it in place.
_ONE_PRODUCT = Lock()


def inner_products(query: Matrix, gallery: Matrix, out: Matrix) -> None:
    """Compute the inner products (B, G) of (B, D) and (G, D).

    Args:
        query: (B, D) embeddings, where B is a multiple of `ROWS`.
        gallery: (G, D) embeddings, where G is at least `least_columns(D)`.
        out: (B, G) output array.
    """
    _library()(query, gallery, out)


def least_columns(dim: int) -> int:
    """Return the minimum number of columns of a product of embeddings with `dim` dimensions."""
    return max(LEAST_COLUMNS, math.ceil(LARGE / (ROWS * dim)))


def padded_rows(rows: int) -> int:
    """Round up to a multiple of `ROWS`."""
    return math.ceil(rows / ROWS) * ROWS


@cache
def _library() -> Product:
    """Choose NumPy or PyTorch, whichever rounds reproducibly.

    NumPy is up to twice as fast on some processors. But without AVX-512, the rounding of OpenBLAS depends on the
    position of a row in a block of twelve, so the order of the queries would change the last bit of a distance.
    """
    return by_numpy if rounds_alike(by_numpy) or not rounds_alike(by_torch) else by_torch


def rounds_alike(multiply: Product) -> bool:
    """Return True if equal embeddings have equal products at every position."""
    rng = np.random.default_rng(0)
    query, gallery = (
        np.repeat(rng.standard_normal((1, 512), np.float32), size, axis=0)
        for size in (2 * ROWS, 3 * LEAST_COLUMNS + 11)
    )
    out = np.empty((len(query), len(gallery)), np.float32)
    multiply(query, gallery, out)
    return bool((out == out[0, 0]).all())


def by_numpy(query: Matrix, gallery: Matrix, out: Matrix) -> None:
    """Multiply with NumPy, with a slice of the columns on each core."""
    with _ONE_PRODUCT, _blas().limit(limits=1, user_api="blas"):
        parallel_for(
            len(gallery),
            lambda columns: np.matmul(query, gallery[columns].T, out=out[:, columns]),
            least_columns(query.shape[1]),
        )


def by_torch(query: Matrix, gallery: Matrix, out: Matrix) -> None:
    """Multiply with PyTorch and its threads."""
    with full_precision("cpu"):
        torch.mm(torch.from_numpy(query), torch.from_numpy(gallery).T, out=torch.from_numpy(out))


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()  # slow, because it inspects all loaded libraries


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Multiply float32 matrices in float32 inside the block, even if TF32 or bfloat16 is enabled for training.

    `torch.set_float32_matmul_precision("high")` is common. With 10 bits of mantissa, `|q|^2 + |g|^2 - 2qg` cancels so
    badly that near neighbors swap ranks.

    Args:
        device: Type of the device, such as "cuda".
    """
    # Since PyTorch 2.9, each backend has its own setting, and reading the older global one fails if they differ.
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None))
    if all(hasattr(backend, "fp32_precision") for backend in backends):
        before = [backend.fp32_precision for backend in backends]
        try:
            for backend in backends:
                backend.fp32_precision = "ieee"
            with torch.autocast(device, enabled=False):
                yield
        finally:
            for backend, precision in zip(backends, before, strict=True):
                backend.fp32_precision = precision
    else:
        precision = torch.get_float32_matmul_precision()
        try:
            torch.set_float32_matmul_precision("highest")
            with torch.autocast(device, enabled=False):
                yield
        finally:
            torch.set_float32_matmul_precision(precision)
