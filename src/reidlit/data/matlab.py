"""MATLAB files up to version 7, read by SciPy in a separate process.

SciPy does not validate the types and sizes stored in a file. With one corrupted byte, 2 % of files cause a segmentation
fault (SciPy 1.17), and some cause unlimited memory allocation. In a separate process, this becomes an ordinary error.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

MEMORY = 4 * 2**30  # bytes of address space, where the system can limit it


def read_mat(file: Path, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Read variables of a MATLAB file.

    Args:
        file: Path of the file.
        names: Variables that must exist; `None` reads all.

    Returns:
        Variables by name: numeric arrays as nested lists, strings as `str`, cell arrays as flat lists in MATLAB's
        order, single structs as dicts, and `None` for anything else, such as sparse matrices and objects.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged or unsupported, or lacks a variable.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist.")
    status = file.stat()
    output = _read(str(file), tuple(names or ()), (status.st_size, status.st_mtime_ns))
    content: dict[str, Any] = json.loads(output)
    if missing := [name for name in names or () if name not in content]:
        raise ValueError(f"{file} lacks the variables {missing}. Download it again from its authors.")
    return content


def strings(cells: Any) -> list[str]:
    """Return a cell array of strings unchanged after checking its type.

    Raises:
        ValueError: If `cells` is not a cell array of strings.
    """
    if not isinstance(cells, list):
        raise ValueError("a cell array of strings is expected")
    if other := [cell for cell in cells if not isinstance(cell, str)]:
        raise ValueError(f"a cell array of strings contains {str(other[0])[:50]!r}")
    return cells


@lru_cache(maxsize=8)  # a dataset reads the same file for each of its splits
def _read(file: str, names: tuple[str, ...], version: tuple[int, int]) -> str:
    """Run this module as a program; `version` is part of the cache key, so that a changed file is read again."""
    del version
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    # -P keeps this folder off sys.path, where its modules would shadow others of the same name.
    command = [sys.executable, "-P", __file__, file, *names]
    reader = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    if reader.returncode != 0:
        lines = reader.stderr.strip().splitlines()
        reason = lines[-1] if lines and reader.returncode > 0 else "SciPy's reader crashed"
        raise ValueError(f"{file} is not a readable MATLAB file ({reason}). Download it again from its authors.")
    return reader.stdout


def _print_variables(file: str, *names: str) -> None:
    from scipy.io import loadmat  # only the separate process needs SciPy

    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows and macOS
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    content = loadmat(file, appendmat=False, variable_names=names or None)
    json.dump({name: _plain(value) for name, value in content.items() if not name.startswith("__")}, sys.stdout)


def _plain(value: Any) -> Any:
    """Convert a variable, cell or field from `loadmat` to JSON-compatible types."""
    kind = value.dtype.kind if hasattr(value, "dtype") and hasattr(value, "tolist") else ""
    if kind == "V" and value.dtype.names and value.size == 1:
        return {name: _plain(value[name].item()) for name in value.dtype.names}
    if kind == "O":
        return [_plain(cell) for cell in value.ravel("F")]
    if kind == "U" and value.size <= 1:
        return "".join(value)
    return value.tolist() if kind in ("b", "i", "u", "f") else None


if __name__ == "__main__":
    _print_variables(*sys.argv[1:])
