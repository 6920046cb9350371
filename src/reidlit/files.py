"""Atomic file writes, and the version of a file."""

import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

try:
    import fcntl
except ModuleNotFoundError:  # on Windows
    fcntl = None  # type: ignore[assignment]

LEFTOVER = re.compile(r"\..*\.[0-9a-f]{32}\.part(\..*)?")
_cleaned: set[Path] = set()  # folders whose leftovers this process has removed


@contextmanager
def atomic_path(file: Path, shared: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `file` that replaces `file` when the block ends without an error.

    Readers see either the previous file or the complete new one. After an error, the temporary file is removed and
    `file` is unchanged. Temporary files that killed processes left in the folder are removed as well.

    Args:
        file: Path of the file to write; its folder must exist.
        shared: Whether several processes may write `file` at the same time. If False, the temporary file has a fixed
            name, so that the next write overwrites the leftover of a killed process.

    Example:
        >>> with atomic_path(Path("scores.npz")) as part:  # doctest: +SKIP
        ...     np.savez(part, embedding=embedding)
    """
    # Keep the suffix, because writers such as np.savez choose the format by it.
    unique = f".{uuid.uuid4().hex}" if shared else ""
    part = file.with_name(f".{file.stem}{unique}.part{file.suffix}")
    try:
        with _marked_as_written(part) if shared else nullcontext():
            yield part
            part.replace(file)
    except OSError as error:
        if error.filename == str(part):
            error.filename = str(file)
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _marked_as_written(part: Path) -> Iterator[None]:
    """Lock a temporary file until the block ends, and remove those in its folder that no process has locked."""
    if fcntl is None:
        yield
        return
    with part.open("wb") as opened:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if part.parent not in _cleaned:
            _cleaned.add(part.parent)
            _remove_leftovers(part.parent)
        yield


def _remove_leftovers(folder: Path) -> None:
    for entry in os.scandir(folder):
        if LEFTOVER.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            with suppress(OSError), open(entry.path, "rb") as opened:  # noqa: PTH123 - a path of scandir is a text
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while another process is writing the file
                os.unlink(entry.path)  # noqa: PTH108


def atomic_write(file: Path, data: bytes | str) -> None:
    """Write `data` to `file` atomically; text is encoded as UTF-8."""
    with atomic_path(file) as part:
        part.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON atomically."""
    atomic_write(file, json.dumps(content, indent=2) + "\n")


def file_version(path: str | Path) -> tuple[int, int]:
    """Return the size in bytes and the modification time in ns of a file, -1 for both if it is missing."""
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat
    except FileNotFoundError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def file_stamp(path: str | Path) -> int:
    """Return a nonzero number that changes with the version of a file, to recognize what was computed from it."""
    size, mtime_ns = file_version(path)
    digest = blake2b(f"{size} {mtime_ns}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1
