"""Files that are whole or not there."""

import uuid
from pathlib import Path


def write_whole(file: Path, data: bytes) -> None:
    """Writes a file under another name first, so that nobody ever reads half of it."""
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        part.write_bytes(data)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
