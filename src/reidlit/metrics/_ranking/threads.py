"""Parallel loops over compiled code in Python threads that release the GIL.

Python threads sleep while they wait for work. The threads of OpenBLAS and OpenMP, which Numba and PyTorch use, keep
spinning and take cores from each other when matrix products and kernels alternate.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numba


def parallel_for(size: int, work: Callable[[slice], object], least: int = 1) -> None:
    """Split `range(size)` into one slice per thread (NUMBA_NUM_THREADS) and process the slices in parallel.

    Args:
        size: Number of items.
        work: Function that processes a slice of the items.
        least: Minimum number of items per slice.
    """
    count = max(1, min(int(numba.get_num_threads()), size // least))
    slices = [slice(size * i // count, size * (i + 1) // count) for i in range(count)]
    if count == 1:
        work(slices[0])
        return
    for future in [_pool(count).submit(work, items) for items in slices]:
        future.result()


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="reidlit")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
