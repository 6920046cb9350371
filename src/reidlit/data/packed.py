"""Decoded images of a dataset in one file, which every process reads through the same memory.

A pack is an Arrow IPC file of pixels that is mapped into memory. The operating system keeps what was read once for all
workers and all runs, and no image is decoded again.
"""

import hashlib
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL

Array = np.ndarray[Any, Any]

VERSION = "1"  # of the layout
FORM = "decoded"  # earlier versions also wrote packs of image files, "encoded"
DECODER = f"opencv {cv2.__version__}, pillow {PIL.__version__}"  # another one may differ in the last bit of a pixel
BLOCK = 256  # images that one thread checks, and that are in memory at once while a pack is written
THREADS = 16  # more than cores: they also wait for disks


class Packed:
    """Reader of packed images; `Images(read=Packed(...))` uses it.

    A forked worker has the map already, a spawned one maps the file again; either way its pages are in memory once.
    Besides the map a process holds 40 bytes per image.

    Args:
        file: Path of the pack.
        root: Folder that paths are relative to; it may have moved since the pack was written.

    Raises:
        FileNotFoundError: If the pack does not exist.
        ValueError: If the file is not a pack of this version, or is damaged.
    """

    def __init__(self, file: Path, root: str | Path) -> None:
        self.file = file
        self.root = root
        self._table = _open(file)
        self._prefix = path_prefix(root)
        keys = self._table["key"].to_numpy()
        order = np.argsort(keys)
        self._keys = memoryview(keys[order])  # sorted; a dict of half a million paths would take 100 MB per worker
        self._order = order.astype(np.int32)
        self._data = self._table["data"]
        self._shapes = np.stack([self._table["height"].to_numpy(), self._table["width"].to_numpy()], axis=1)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path, since maps cannot be pickled."""
        return Packed, (self.file, self.root)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, path: str) -> bool:
        return self._row(path) is not None

    def __call__(self, path: str) -> Array:
        """Return an image.

        Args:
            path: Path as when the pack was written, or below the new root.

        Returns:
            (H, W, 3) uint8, RGB, contiguous; the same values as `decode(path)`, in memory of its own.

        Raises:
            ValueError: If the image is not in the pack.
        """
        row = self._row(path)
        if row is None:
            raise ValueError(
                f"{path!r} is not among the {len(self)} images of the pack {str(self.file)!r}, whose root is "
                f"{str(self.root)!r}. Delete the pack to have it written anew, or set data.pack=null."
            )
        pixels = self._data[row].as_buffer()
        return np.frombuffer(pixels, np.uint8).reshape(*self._shapes[row], 3)

    def is_current(self, paths: Sequence[str]) -> bool:
        """Return True if the pack contains these images as they are now, decoded by the installed decoders."""
        if self._table.schema.metadata[b"decoder"] != DECODER.encode():
            return False
        with ThreadPoolExecutor(THREADS) as pool:
            return all(pool.map(self._is_unchanged, blocks(paths)))

    def _is_unchanged(self, paths: Sequence[str]) -> bool:
        for path in paths:
            row = self._row(path)
            if row is None:
                return False
            if tuple(self._table[column][row].as_py() for column in ("size", "mtime_ns")) != file_version(path):
                return False
        return True

    def _row(self, path: str) -> int | None:
        key = path_key(path, self._prefix)
        position = bisect_left(self._keys, key)
        if position == len(self._keys) or self._keys[position] != key:
            return None
        return int(self._order[position])


def pack_name(name: str, paths: Sequence[str], root: str | Path) -> str:
    """Return the file name of the pack of these images; no file is read.

    Other options of a dataset may choose other images. They get a pack of their own, so that no run replaces what
    another one is reading.
    """
    prefix = path_prefix(root)
    keys = np.fromiter({path_key(path, prefix) for path in paths}, np.uint64)
    keys.sort()
    return f"{name}-{FORM}-{hashlib.blake2b(keys.tobytes(), digest_size=4).hexdigest()}.arrow"


def file_version(path: str) -> tuple[int, int]:
    """Return the size and the time of the last change of a file; -1 for both if it is missing."""
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat
    except FileNotFoundError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def path_prefix(root: str | Path) -> str:
    """Return what paths below a folder begin with."""
    return str(Path(root) / "_")[:-1]


def relative_path(path: str, prefix: str) -> str:
    """Return a path below the root, with `/` between folders."""
    name = path.removeprefix(prefix)
    return name if os.sep == "/" else name.replace(os.sep, "/")


def path_key(path: str, prefix: str) -> int:
    """Return a path as 64 bits. Of a million paths two collide with a probability of one in 40 million."""
    name = os.fsencode(relative_path(path, prefix))
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def blocks(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split paths into lists of at most `BLOCK`."""
    return (paths[start : start + BLOCK] for start in range(0, len(paths), BLOCK))


def _open(file: Path) -> Any:
    """Map a pack into memory, and return its table without reading its images."""
    import pyarrow as pa  # here, because it is slow to import and few runs pack

    if not file.is_file():
        raise FileNotFoundError(f"There is no pack {str(file)!r}.")
    try:
        table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        table.validate(full=True)  # offsets that lead out of the map would crash the process
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{str(file)!r} is no pack, or it is damaged ({error}). Move it or delete it.") from error
    metadata = table.schema.metadata or {}
    version, form = metadata.get(b"reidlit_pack"), metadata.get(b"form", FORM.encode())
    if version != VERSION.encode() or form != FORM.encode():
        kind = (
            "an Arrow file, but no pack"
            if version is None
            else f"a pack of version {version.decode()}, {form.decode()}"
        )
        raise ValueError(
            f"{str(file)!r} is {kind}; a pack of version {VERSION}, {FORM}, is needed. Move it or delete it."
        )
    return table
