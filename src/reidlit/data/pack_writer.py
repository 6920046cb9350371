"""Writer of packs, the files of decoded images that `Packed` reads."""

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
    path_key,
    path_prefix,
    relative_path,
)
from reidlit.files import atomic_path, file_version
from reidlit.locks import locked


def pack(paths: Sequence[str], file: Path, root: str | Path, progress: bool = False) -> None:
    """Write a pack atomically, with at most `BLOCK` images in memory.

    A pack needs three bytes per pixel. For Market-1501 that is 25 kB per image, ten times the size of the image files.

    Args:
        paths: Paths of the images. Duplicates are packed once.
        file: Path of the pack. Its folder is created if it does not exist.
        root: Folder of the dataset. Paths below it are stored relative to it, so the dataset can be moved.
        progress: Whether to show a progress bar.

    Raises:
        FileNotFoundError: If an image does not exist.
        ValueError: If `paths` is empty, an image cannot be decoded, or `file` cannot be written.
    """
    if not paths:
        raise ValueError(f"paths is empty: must contain at least one image to write the pack {str(file)!r}.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file) as is_locked, atomic_path(file, shared=not is_locked) as part:
            _write(list(dict.fromkeys(paths)), part, path_prefix(root), progress)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(
            f"The pack {str(file)!r} cannot be written ({error}). Set data.pack_dir to a writable folder with enough space, or "
            "set data.pack=null."
        ) from error


def pack_once(paths: Sequence[str], file: Path, root: str | Path, progress: bool = False) -> bool:
    """Write a pack unless an up-to-date pack exists; see `pack`. If another process is writing it, wait for that process.

    Returns:
        True if the pack was written.
    """
    if _is_current(paths, file, root):
        return False
    with locked(file):
        if _is_current(paths, file, root):
            return False
        pack(paths, file, root, progress)
    return True


def _is_current(paths: Sequence[str], file: Path, root: str | Path) -> bool:
    try:
        return Packed(file, root).is_current(paths)
    except (FileNotFoundError, ValueError):  # missing or damaged
        return False


def _write(paths: Sequence[str], part: Path, prefix: str, progress: bool) -> None:
    import pyarrow as pa  # imported here because it is slow to import and few runs use packs

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
    size, mtime_ns = file_version(path)  # before reading, so that a later change is detected
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
