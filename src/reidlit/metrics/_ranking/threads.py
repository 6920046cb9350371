"""Work on all cores: each takes a share, in a Python thread that runs compiled code without the GIL.

Such threads sleep between two pieces of work. Those of OpenBLAS and of OpenMP, which Numba and PyTorch use, go on
spinning for a while and take the cores from each other where products and kernels alternate.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numba


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


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="reidlit")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child process has none of the threads
