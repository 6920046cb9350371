"""Reading of files that may be damaged, tampered with, or come from strangers."""

import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAX_JSON = 2**26  # bytes; the metrics of a run have a few kilobytes
# A file is refused if reading it needs more memory than this, and also this many times its own size.
FREE_SIZE, MAX_RATIO = 2**28, 64
MAX_DEPTH, MAX_VALUES = 100, 10**7


@contextmanager
def reading(name: object, remedy: str) -> Iterator[None]:
    """Turn any error within the block into one message that names the file.

    Use it around code that reads a file, or that builds objects from its content. The original error, which may be a bug in
    reidlit, remains as the cause: HYDRA_FULL_ERROR=1 shows it.

    Args:
        name: Path of the file, or the setting that contains it, such as `weights=a.pth`.
        remedy: Sentence that says what to do.

    Raises:
        ValueError: If an error occurs. A ValueError or OSError that names the file already is raised unchanged.

    Example:
        >>> with reading("scores.json", "Repeat the test."):
        ...     {}["mAP"]
        Traceback (most recent call last):
        ...
        ValueError: scores.json cannot be used (KeyError: 'mAP'). Repeat the test.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (ValueError, OSError)) and str(name) in str(error):
            raise
        raise ValueError(f"{name} cannot be used ({summary(error)}). {remedy}") from error


def summary(error: BaseException) -> str:
    """Return the message of an error in one line, with its type if the message alone may say too little."""
    text = " ".join(str(error).split())[:300].rstrip(".")
    if not text or not isinstance(error, (ValueError, OSError)):
        text = f"{type(error).__name__}: {text}".rstrip(": ")
    return text


def expanded(path: str | Path) -> Path:
    """Return a path with `~` expanded; an unknown user or home folder leaves it unchanged."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def read_json(file: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON file that contains an object.

    Raises:
        ValueError: If the file is damaged, too large, or contains something else.
    """
    with reading(file, remedy):
        check_regular(file)
        if file.stat().st_size > MAX_JSON:
            raise ValueError(f"it has more than {MAX_JSON:,} bytes")
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it contains a {type(content).__name__} instead of an object")
        return content


def check_nesting(content: Any) -> None:
    """Refuse nested dicts and lists that are cyclic, deep, or huge because they contain the same part many times.

    Raises:
        ValueError: If it is so.
    """
    sizes: dict[int, int] = {}

    def size(item: Any, depth: int) -> int:
        if not isinstance(item, dict | list | tuple):
            return 1
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply, or contains itself")
        if id(item) not in sizes:
            parts = item.values() if isinstance(item, dict) else item
            sizes[id(item)] = 1 + sum(size(part, depth + 1) for part in parts)
        return sizes[id(item)]

    if size(content, 0) > MAX_VALUES:
        raise ValueError(f"it has more than {MAX_VALUES:,} values")


def check_regular(file: Path) -> None:
    """Refuse pipes, devices and folders, which could block the reader.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a regular file.
    """
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist.")
    if not file.is_file():
        raise ValueError(f"{file} is not a regular file.")


def check_unpacked_size(file: Path, size: int) -> None:
    """Refuse a file that is much larger in memory than on disk.

    Args:
        file: Path of the file.
        size: Bytes that reading it needs.

    Raises:
        ValueError: If it needs more than `FREE_SIZE`, and more than `MAX_RATIO` times the size of the file.
    """
    if size > max(FREE_SIZE, MAX_RATIO * file.stat().st_size):
        raise ValueError(f"it would need {size / 1e9:,.1f} GB of memory, far more than its size on disk")


def check_zip(file: Path) -> None:
    """Apply `check_unpacked_size` to a zip archive; files of other formats are not checked.

    Raises:
        ValueError: If it is too large in memory.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            check_unpacked_size(file, sum(member.file_size for member in archive.infolist()))


def read_arrays(file: Path, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the arrays of a `.npz` file without running code in it, within the memory that its size on disk allows.

    Args:
        file: Path of the file.
        names: Names of the arrays; None for all.

    Raises:
        ValueError: If a header claims more values than the file has, or the file is not a `.npz` file.
        KeyError: If an array is missing.
    """
    import numpy as np  # not at module level, because help and completion do not need it

    check_regular(file)
    check_zip(file)
    with np.load(file, allow_pickle=False) as content:
        if not isinstance(content, np.lib.npyio.NpzFile) or content.zip is None:
            raise ValueError("it is not a .npz file")
        for member in content.zip.infolist():
            with content.zip.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = read_header[version](stream)
            claimed = dtype.itemsize
            for length in shape:
                claimed *= length
            if min(shape, default=0) < 0 or claimed > member.file_size:
                raise ValueError(f"{member.filename} claims {shape} values, which are not in the file")
        return {name: content[name] for name in (content.files if names is None else names)}
