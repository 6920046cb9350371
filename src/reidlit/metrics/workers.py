"""Work on all cores: each takes a share, in a Python thread that runs compiled code without the GIL.

Such threads sleep between two pieces of work. Those of OpenBLAS and of OpenMP, which Numba and PyTorch use, go on
spinning for a while and take the cores from each other where products and kernels alternate.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock

import numba
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

# The limit belongs to the process: two threads that set and restored it in turn would leave it behind.
_ONE_PRODUCT = Lock()


def share(size: int, work: Callable[[slice], object], least: int = 1) -> None:
    """Split `range(size)` into one slice a thread of Numba (NUMBA_NUM_THREADS) and work on them at once.

    Args:
        size: How many pieces there are.
        work: Is called with each slice.
        least: Pieces that a slice has at least, if there are so many.
    """
    count = max(1, min(int(numba.get_num_threads()), size // least))
    slices = [slice(size * i // count, size * (i + 1) // count) for i in range(count)]
    if count == 1:
        work(slices[0])
        return
    for done in [_pool(count).submit(work, part) for part in slices]:
        done.result()


def product(a: NDArray[np.float32], b: NDArray[np.float32], out: NDArray[np.float32], least: int) -> None:
    """Inner products of the rows of (B, D) and (G, D) into (B, G), each core with at least `least` columns.

    By NumPy, whose library is up to twice as fast as PyTorch's on some processors.
    """
    with _ONE_PRODUCT, _blas().limit(limits=1, user_api="blas"):
        share(len(b), lambda part: np.matmul(a, b[part].T, out=out[:, part]), least)


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="reidlit")


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all loaded libraries, which takes a while


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child process has none of the threads
