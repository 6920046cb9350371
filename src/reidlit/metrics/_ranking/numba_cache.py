"""Compilation of the kernels, and where its results are kept."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def jit() -> Callable[[Function], Function]:
    """`numba.njit` that keeps its types, frees the GIL for `workers.share` and caches what it compiled where it can.

    Numba caches in NUMBA_CACHE_DIR, beside the module or in the user's cache folder. Where it may write to none of them,
    as in a read-only container, some of its versions refuse to decorate: then the cache is left out.
    """

    def decorate(function: Function) -> Function:
        try:
            compiled: Any = numba.njit(nogil=True, cache=True)(function)
        except RuntimeError:
            compiled = numba.njit(nogil=True)(function)
        # Numba looks at the age of the function's own file only, and would go on with what it compiled before a function
        # of another file was changed.
        kept = getattr(compiled._cache, "_cache_file", None)
        if kept is not None:
            kept._source_stamp = _stamp(Path(function.__code__.co_filename).parent)
        return cast("Function", compiled)

    return decorate


@cache
def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, time of change and size of each file in the folder of kernels."""
    status = ((path.name, path.stat()) for path in sorted(folder.glob("*.py")))
    return tuple((name, found.st_mtime_ns, found.st_size) for name, found in status)
