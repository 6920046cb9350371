"""Atomic file writes."""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(file: Path, shared: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `file` that replaces `file` when the block ends without an error.

    Readers see either the previous file or the complete new one. After an error, the temporary file is removed and
    `file` is unchanged.

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
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def atomic_write(file: Path, data: bytes | str) -> None:
    """Write `data` to `file` atomically; text is encoded as UTF-8."""
    with atomic_path(file) as part:
        part.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON atomically."""
    atomic_write(file, json.dumps(content, indent=2) + "\n")
