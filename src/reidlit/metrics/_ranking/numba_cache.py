"""Compilation of the Numba kernels and their cache on disk."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def jit() -> Callable[[Function], Function]:
    """Return `numba.njit` as a typed decorator that releases the GIL for `parallel_for` and caches compiled code.

    Numba caches in NUMBA_CACHE_DIR, next to the module or in the cache folder of the user. If none of them is writable,
    as in a read-only container, some Numba versions raise an error. The kernel is then compiled without a cache.
    """

    def decorate(function: Function) -> Function:
        try:
            compiled: Any = numba.njit(nogil=True, cache=True)(function)
        except RuntimeError:
            compiled = numba.njit(nogil=True)(function)
        # Numba checks the age of the function's file only, and would reuse stale code after a change in another file.
        cache_file = getattr(compiled._cache, "_cache_file", None)
        if cache_file is not None:
            cache_file._source_stamp = _stamp(Path(function.__code__.co_filename).parent)
        return cast("Function", compiled)

    return decorate


@cache
def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return name, modification time and size of each module in the folder of the kernels."""
    files = ((path.name, path.stat()) for path in sorted(folder.glob("*.py")))
    return tuple((name, status.st_mtime_ns, status.st_size) for name, status in files)
