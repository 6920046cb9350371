"""Inner products that round alike wherever a query stands, by the fastest library that can do that."""

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

from reidlit.metrics._ranking.threads import share

Matrix: TypeAlias = NDArray[np.float32]
Product: TypeAlias = Callable[[Matrix, Matrix, Matrix], None]

# Libraries round otherwise in the last rows of a product, where these do not fill the 12 or 16 that are computed at once,
# and where it is small altogether. So a product has as many rows as both divide, and is never small.
ROWS = 48
LEAST_COLUMNS = 256
LARGE = 2_000_000
# The limit belongs to the process: two threads that set and restored it in turn would leave it behind.
_ONE_PRODUCT = Lock()


def inner_products(query: Matrix, gallery: Matrix, out: Matrix) -> None:
    """Inner products of (B, D) and (G, D) into (B, G); B must be a multiple of `ROWS` and G `least_columns` or more."""
    _library()(query, gallery, out)


def least_columns(dim: int) -> int:
    """Return the least number of columns of a product, for embeddings of `dim` numbers."""
    return max(LEAST_COLUMNS, math.ceil(LARGE / (ROWS * dim)))


def padded_rows(rows: int) -> int:
    """Return the least multiple of `ROWS` that is not below `rows`."""
    return math.ceil(rows / ROWS) * ROWS


@cache
def _library() -> Product:
    """NumPy's library is up to twice as fast as PyTorch's on some processors.

    But OpenBLAS for processors without AVX-512 rounds by a row's place among twelve, so the order of the queries would
    show in the last bit of a distance.
    """
    return by_numpy if rounds_alike(by_numpy) or not rounds_alike(by_torch) else by_torch


def rounds_alike(multiply: Product) -> bool:
    """Whether equal embeddings have equal products, wherever they stand."""
    rng = np.random.default_rng(0)
    query, gallery = (
        np.repeat(rng.standard_normal((1, 512), np.float32), size, axis=0)
        for size in (2 * ROWS, 3 * LEAST_COLUMNS + 11)
    )
    out = np.empty((len(query), len(gallery)), np.float32)
    multiply(query, gallery, out)
    return bool((out == out[0, 0]).all())


def by_numpy(query: Matrix, gallery: Matrix, out: Matrix) -> None:
    """A share of the columns on each core."""
    with _ONE_PRODUCT, _blas().limit(limits=1, user_api="blas"):
        share(
            len(gallery),
            lambda own: np.matmul(query, gallery[own].T, out=out[:, own]),
            least_columns(query.shape[1]),
        )


def by_torch(query: Matrix, gallery: Matrix, out: Matrix) -> None:
    """By the threads of PyTorch."""
    with full_precision("cpu"):
        torch.mm(torch.from_numpy(query), torch.from_numpy(gallery).T, out=torch.from_numpy(out))


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all loaded libraries, which takes a while


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Multiply fp32 matrices in fp32 on a type of device, although training was allowed TF32 or bfloat16.

    `torch.set_float32_matmul_precision("high")` is common, and `|q|^2 + |g|^2 - 2qg` cancels: with 10 bits of mantissa
    near neighbours swap their ranks.
    """
    # Since 2.9 PyTorch keeps one setting a backend, and the older global one cannot be read once they differ.
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
