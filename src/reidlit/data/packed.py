"""Reader of packs, which hold the decoded images of a dataset in one memory-mapped file.

A pack is an Arrow IPC file of pixels. The operating system caches its pages once for all workers and runs, and images need not
be decoded again.
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

from reidlit.files import file_version

Array = np.ndarray[Any, Any]

VERSION = "1"  # version of the file layout
FORM = "decoded"  # earlier versions also wrote packs of image files, "encoded"
DECODER = f"opencv {cv2.__version__}, pillow {PIL.__version__}"  # pixels may differ slightly between versions
BLOCK = 256  # images that one thread checks, and maximum number of images in memory while a pack is written
THREADS = 16  # more than most machines have cores, because threads also wait for the disk


class Packed:
    """Reader of packed images, to be used as `Images(read=Packed(...))`.

    A forked worker inherits the memory map and a spawned worker maps the file again. In both cases the pages are in memory only
    once. In addition, each process needs 40 bytes per image.

    Args:
        file: Path of the pack.
        root: Folder of the dataset, to which the paths in the pack are relative. It may have moved since the pack was written.

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
        """Pickle only the paths, because memory maps cannot be pickled."""
        return Packed, (self.file, self.root)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, path: str) -> bool:
        return self._row(path) is not None

    def __call__(self, path: str) -> Array:
        """Return an image.

        Args:
            path: Path as it was when the pack was written, or with the new root.

        Returns:
            (H, W, 3) uint8 RGB image, contiguous: a copy with the same values as `decode(path)`.

        Raises:
            ValueError: If the image is not in the pack.
        """
        row = self._row(path)
        if row is None:
            raise ValueError(
                f"{path!r} is not among the {len(self)} images of the pack {str(self.file)!r}, whose root is "
                f"{str(self.root)!r}. Delete the pack to rebuild it, or set data.pack=null."
            )
        pixels = self._data[row].as_buffer()
        return np.frombuffer(pixels, np.uint8).reshape(*self._shapes[row], 3)

    def is_current(self, paths: Sequence[str]) -> bool:
        """Return True if the pack contains the current version of these images, decoded by the installed libraries."""
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
    """Return the file name of the pack of these images, without reading any file.

    The name depends on the list of images. Options of a dataset that select other images lead to another pack, so a run never
    replaces a pack that another run is reading.
    """
    prefix = path_prefix(root)
    keys = np.fromiter({path_key(path, prefix) for path in paths}, np.uint64)
    keys.sort()
    return f"{name}-{FORM}-{hashlib.blake2b(keys.tobytes(), digest_size=4).hexdigest()}.arrow"


def path_prefix(root: str | Path) -> str:
    """Return the common prefix of the paths below a folder."""
    return str(Path(root) / "_")[:-1]


def relative_path(path: str, prefix: str) -> str:
    """Return a path relative to the root, with `/` as separator."""
    name = path.removeprefix(prefix)
    return name if os.sep == "/" else name.replace(os.sep, "/")


def path_key(path: str, prefix: str) -> int:
    """Return a 64-bit hash of a path. The probability of a collision among a million paths is 1 in 40 million."""
    name = os.fsencode(relative_path(path, prefix))
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def blocks(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split paths into blocks of at most `BLOCK` paths."""
    return (paths[start : start + BLOCK] for start in range(0, len(paths), BLOCK))


def _open(file: Path) -> Any:
    """Map a pack into memory; return its table without reading the images."""
    import pyarrow as pa  # imported here because it is slow to import and few runs use packs

    if not file.is_file():
        raise FileNotFoundError(f"Pack {str(file)!r} does not exist.")
    try:
        table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        table.validate(full=True)  # offsets outside the map would crash the process
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{str(file)!r} is not a pack, or it is damaged ({error}). Move or delete it.") from error
    metadata = table.schema.metadata or {}
    version, form = metadata.get(b"reidlit_pack"), metadata.get(b"form", FORM.encode())
    if version != VERSION.encode() or form != FORM.encode():
        actual = (
            "an Arrow file, but not a pack"
            if version is None
            else f"a pack of version {version.decode()} ({form.decode()})"
        )
        raise ValueError(f"{str(file)!r} is {actual}: must be a pack of version {VERSION} ({FORM}). Move or delete it.")
    return table
