"""Many image files as one, which every process reads through the same memory.

A pack is an Arrow IPC file that is mapped into memory. In the form `encoded` it holds the files as they are: one open
file instead of one an image, which spares slow and remote disks. In the form `decoded` it holds pixels: the operating
system keeps what was read in memory once for all workers and all runs, and nobody decodes anything again.
"""

import errno
import hashlib
import os
import uuid
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
import PIL
from tqdm import tqdm

from reidlit.data.decode import decode, decode_data, read_data

Array = np.ndarray[Any, Any]
Form = Literal["encoded", "decoded"]

VERSION = "1"  # of the layout
DECODER = f"opencv {cv2.__version__}, pillow {PIL.__version__}"  # another one may differ in the last bit of a pixel
ROWS = 256  # images that are in memory at once while a pack is written
THREADS = 16  # more than cores: they also wait for disks
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Row(NamedTuple):
    """An image in a pack; height and width are for pixels only."""

    path: str
    key: int
    size: int
    mtime_ns: int
    height: int | None
    width: int | None
    data: bytes


def pack(paths: Sequence[str], file: Path, root: str | Path, form: Form, progress: bool = False) -> None:
    """Writes a pack, whole or not at all. No more than `ROWS` images are in memory at once.

    Args:
        paths: the image files. A path that comes twice is packed once.
        file: what to write; an older file is replaced, and its folder is made.
        root: a folder. Paths below it are noted relative to it, so that a data set may move together with its pack.
        form: "encoded" keeps the files as they are; "decoded" keeps pixels of three bytes each, which takes ten times the
            space for Market-1501 (25 kB an image) and more for sharper images.
        progress: whether to show a bar.

    Raises:
        FileNotFoundError: if an image is missing.
        ValueError: if there is no path, the form is unknown, an image cannot be decoded, or `file` cannot be written.
    """
    if form not in get_args(Form):
        raise ValueError(f"data.pack={form} must be null, encoded or decoded.")
    if not paths:
        raise ValueError(f"paths is empty: there is nothing to pack into {file}.")
    import pyarrow as pa  # here, because it is slow to import and few runs pack

    shape = [("height", pa.int32()), ("width", pa.int32())] if form == "decoded" else []
    schema = pa.schema(
        [
            ("path", pa.string()),
            ("key", pa.uint64()),
            ("size", pa.int64()),
            ("mtime_ns", pa.int64()),
            *shape,
            ("data", pa.large_binary()),
        ],
        {"reidlit_pack": VERSION, "form": form, "decoder": DECODER},
    )
    part = _part(file)
    rows = partial(_rows, prefix=_prefix(root), form=form)
    unique = list(dict.fromkeys(paths))
    try:
        with (
            ThreadPoolExecutor(THREADS) as pool,
            tqdm(total=len(unique), desc=f"packing {file.name}", unit="image", disable=not progress) as bar,
            pa.OSFile(str(part), "wb") as sink,
            pa.ipc.new_file(sink, schema) as writer,
        ):
            for block in _blocks(unique, ROWS):
                loaded = [row._asdict() for some in pool.map(rows, _blocks(block, ROWS // THREADS)) for row in some]
                writer.write_batch(pa.RecordBatch.from_pylist(loaded, schema=schema))
                bar.update(len(block))
        part.replace(file)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise _unwritable(file, error) from error
    finally:
        part.unlink(missing_ok=True)


def pack_once(paths: Sequence[str], file: Path, root: str | Path, form: Form, progress: bool = False) -> bool:
    """Writes a pack unless there is a good one; see `pack`.

    Returns:
        Whether it was written.
    """
    try:
        there = Packed(file, root)
        there.check(paths)
        if there.form == form:
            return False
    except (FileNotFoundError, ValueError):
        pass  # missing, cut short, of other images or outdated
    pack(paths, file, root, form, progress)
    return True


def pack_name(name: str, paths: Sequence[str], root: str | Path, form: Form) -> str:
    """Names a pack after what it holds.

    Other options of a data set may choose other images. They get a pack of their own, so that no run replaces what
    another one is reading. No file is looked at, so every process may ask.

    Args:
        name: of the data set.
        paths: see `pack`; their order does not matter.
        root: see `pack`.
        form: see `pack`.
    """
    prefix = _prefix(root)
    keys = np.fromiter({_key(path, prefix) for path in paths}, np.uint64)
    keys.sort()
    return f"{name}-{form}-{hashlib.blake2b(keys.tobytes(), digest_size=4).hexdigest()}.arrow"


class Packed:
    """Reads images from a pack; `Images(read=Packed(...))` takes them from there.

    A worker that is forked has the map already, one that is spawned maps the file again; either way its pages are in
    memory once. Besides the map a process holds 40 bytes an image.

    Args:
        file: what `pack` has written.
        root: the folder that paths are relative to, see `pack`; it may lie elsewhere than when the pack was written.

    Attributes:
        form: "encoded" or "decoded".

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no pack, or not a whole one.
    """

    def __init__(self, file: Path, root: str | Path) -> None:
        self.file = file
        self.root = root
        table, self._bytes = _open(file)
        metadata = table.schema.metadata
        self.form: Form = "decoded" if metadata[b"form"] == b"decoded" else "encoded"
        self._decoder = metadata[b"decoder"].decode()
        self._prefix = _prefix(root)
        keys = table["key"].to_numpy()
        order = np.argsort(keys)
        self._keys = memoryview(keys[order])  # sorted; a dict of half a million paths would take 100 MB a worker
        self._order = order.astype(np.int32)
        self._sizes, self._times = table["size"], table["mtime_ns"]
        self._bounds = _bounds(file, table["data"].chunks, self._bytes)
        if self.form == "decoded":
            self._shapes = np.stack([table["height"].to_numpy(), table["width"].to_numpy()], axis=1)

    def __reduce__(self) -> tuple[Any, ...]:
        """Maps cannot be pickled; whoever unpickles opens the file."""
        return Packed, (self.file, self.root)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, path: str) -> bool:
        return self._row(path) is not None

    def __call__(self, path: str) -> Array:
        """Reads an image.

        Args:
            path: as when the pack was written, or below the new root.

        Returns:
            (H, W, 3) uint8, RGB, contiguous; the same values as `decode(path)`. From decoded packs it is a read-only
            view of the map.

        Raises:
            ValueError: if the image is not in the pack, or cannot be decoded.
        """
        row = self._row(path)
        if row is None:
            raise ValueError(
                f"{path!r} is not among the {len(self)} images of the pack {str(self.file)!r}, whose root is "
                f"{str(self.root)!r}. Delete the pack to have it written anew, or set data.pack=null."
            )
        start, end = self._bounds[row]
        data = self._bytes[start:end]
        return data.reshape(*self._shapes[row], 3) if self.form == "decoded" else decode_data(data.tobytes(), path)

    def check(self, paths: Sequence[str]) -> None:
        """Compares the pack with the image files by their sizes and times; it may hold more images than these.

        Raises:
            ValueError: if an image is missing in the pack or has changed since, or if the installed decoders are not
                those that have made the pixels.
        """
        if self.form == "decoded" and self._decoder != DECODER:
            raise ValueError(
                f"{str(self.file)!r} holds pixels decoded by {self._decoder}, but {DECODER} is installed and may give "
                "others. Delete the pack to have it written anew."
            )
        with ThreadPoolExecutor(THREADS) as pool:
            outdated = [path for some in pool.map(self._outdated, _blocks(paths, ROWS)) for path in some]
        if outdated:
            raise ValueError(
                f"{str(self.file)!r} is out of date: {len(outdated)} of {len(paths)} images are not in it or have "
                f"changed since, the first is {outdated[0]!r}. Delete the pack to have it written anew."
            )

    def _outdated(self, paths: Sequence[str]) -> list[str]:
        found = []
        for path in paths:
            row = self._row(path)
            if row is None or (self._sizes[row].as_py(), self._times[row].as_py()) != _status(path):
                found.append(path)
        return found

    def _row(self, path: str) -> int | None:
        key = _key(path, self._prefix)
        position = bisect_left(self._keys, key)
        if position == len(self._keys) or self._keys[position] != key:
            return None
        return int(self._order[position])


def _open(file: Path) -> tuple[Any, Array]:
    """Maps a pack into memory, without reading its images; returns its table and all its bytes."""
    import pyarrow as pa  # see pack

    if not file.is_file():
        raise FileNotFoundError(f"There is no pack {str(file)!r}.")
    try:
        mapped = pa.memory_map(str(file)).read_buffer()
        table = pa.ipc.open_file(mapped).read_all()
        table.validate(full=True)  # offsets that lead out of the map would crash the process
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{str(file)!r} is no pack, or it is damaged ({error}). Move it or delete it.") from error
    version = (table.schema.metadata or {}).get(b"reidlit_pack")
    if version != VERSION.encode():
        what = "an Arrow file, but no pack" if version is None else f"a pack of version {version.decode()}"
        raise ValueError(f"{str(file)!r} is {what}; a pack of version {VERSION} is needed. Move it or delete it.")
    return table, np.frombuffer(mapped, np.uint8)


def _bounds(file: Path, chunks: Sequence[Any], mapped: Array) -> Array:
    """Where each image starts and ends in the file, (N, 2); Arrow itself would copy each image that is asked for."""
    bounds = []
    for chunk in chunks:
        _, offsets, data = chunk.buffers()
        start = data.address - mapped.ctypes.data if data.size else 0
        ends = start + np.frombuffer(offsets, np.int64, len(chunk) + 1)
        bounds.append(np.stack([ends[:-1], ends[1:]], axis=1))
    found = np.concatenate(bounds)
    if found.min() < 0 or found.max() > len(mapped):
        raise ValueError(f"{str(file)!r} was compressed, so it cannot be mapped. Delete it to have it written anew.")
    return found


def _rows(paths: Sequence[str], prefix: str, form: Form) -> list[_Row]:
    rows = []
    for path in paths:
        size, mtime_ns = _status(path)  # before reading, so that a change in between is found out later
        height = width = None
        if form == "decoded":
            image = decode(path)
            height, width = image.shape[:2]
            data = image.tobytes()
        else:
            data = read_data(path)
        readable = os.fsencode(_relative(path, prefix)).decode(errors="replace")
        rows.append(_Row(readable, _key(path, prefix), size, mtime_ns, height, width, data))
    return rows


def _status(path: str) -> tuple[int, int]:
    """Size and time of the last change; a missing file has neither."""
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat
    except FileNotFoundError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _key(path: str, prefix: str) -> int:
    """A path as 64 bits. Of a million paths two agree with a chance of one in 40 million."""
    name = os.fsencode(_relative(path, prefix))
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def _relative(path: str, prefix: str) -> str:
    name = path.removeprefix(prefix)
    return name if os.sep == "/" else name.replace(os.sep, "/")


def _prefix(root: str | Path) -> str:
    return str(Path(root) / "_")[:-1]


def _blocks(paths: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (paths[start : start + size] for start in range(0, len(paths), size))


def _part(file: Path) -> Path:
    """An empty file beside `file`, of a name that no other process takes."""
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    except OSError as error:
        raise _unwritable(file, error) from error
    return part


def _unwritable(file: Path, error: OSError) -> ValueError:
    return ValueError(
        f"The pack {str(file)!r} cannot be written ({error}). Name a writable folder with enough space as data.pack_dir, "
        "or take data.pack=encoded, which needs far less space than decoded, or data.pack=null."
    )
