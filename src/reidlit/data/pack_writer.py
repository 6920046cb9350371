"""Writing of packs, the files of decoded images that `Packed` reads."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reidlit.data.decode import decode
from reidlit.data.packed import (
    DECODER,
    FORM,
    THREADS,
    VERSION,
    Packed,
    blocks,
    file_version,
    path_key,
    path_prefix,
    relative_path,
)
from reidlit.files import atomic_path


def pack(paths: Sequence[str], file: Path, root: str | Path, progress: bool = False) -> None:
    """Write a pack atomically. No more than `BLOCK` images are in memory at once.

    It takes three bytes per pixel: for Market-1501 25 kB per image, ten times the space of the files.

    Args:
        paths: Paths of the images. A path that occurs twice is packed once.
        file: Path of the pack; its folder is created.
        root: Folder of the dataset. Paths below it are stored relative to it, so that it may move together with its
            pack.
        progress: Whether to show a progress bar.

    Raises:
        FileNotFoundError: If an image does not exist.
        ValueError: If there is no path, an image cannot be decoded, or `file` cannot be written.
    """
    if not paths:
        raise ValueError(f"paths is empty: there is nothing to pack into {file}.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as part:
            _write(list(dict.fromkeys(paths)), part, path_prefix(root), progress)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(
            f"The pack {str(file)!r} cannot be written ({error}). Name a writable folder with enough space as data.pack_dir, "
            "or take data.pack=null."
        ) from error


def pack_once(paths: Sequence[str], file: Path, root: str | Path, progress: bool = False) -> bool:
    """Write a pack unless a complete one that is up to date exists; see `pack`.

    Returns:
        Whether it was written.
    """
    try:
        if Packed(file, root).is_current(paths):
            return False
    except (FileNotFoundError, ValueError):  # missing or damaged
        pass
    pack(paths, file, root, progress)
    return True


def _write(paths: Sequence[str], part: Path, prefix: str, progress: bool) -> None:
    import pyarrow as pa  # here, because it is slow to import and few runs pack

    columns = {
        "path": pa.string(),
        "key": pa.uint64(),
        "size": pa.int64(),
        "mtime_ns": pa.int64(),
        "height": pa.int32(),
        "width": pa.int32(),
        "data": pa.large_binary(),
    }
    schema = pa.schema(columns, {"reidlit_pack": VERSION, "form": FORM, "decoder": DECODER})
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(total=len(paths), desc="packing", unit="image", disable=not progress) as bar,
        pa.OSFile(str(part), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for block in blocks(paths):
            rows = list(pool.map(partial(_row, prefix=prefix), block))
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
            bar.update(len(block))


def _row(path: str, prefix: str) -> dict[str, Any]:
    size, mtime_ns = file_version(path)  # before reading, so that a change in between is noticed later
    image = decode(path)
    return {
        "path": os.fsencode(relative_path(path, prefix)).decode(errors="replace"),
        "key": path_key(path, prefix),
        "size": size,
        "mtime_ns": mtime_ns,
        "height": image.shape[0],
        "width": image.shape[1],
        "data": image.tobytes(),
    }
