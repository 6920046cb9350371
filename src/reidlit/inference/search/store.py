"""Embeddings, labels and paths of a gallery, in memory and in a `.npz` file."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from reidlit.files import atomic_path
from reidlit.foreign_files import read_arrays, reading
from reidlit.labels import UNKNOWN
from reidlit.locks import locked
from reidlit.metrics.inputs import as_labels, squared_norms

Integers = NDArray[np.int64]
ABOUT = np.dtype([(name, "<i8") for name in ("id", "pid", "camid", "stamp")])
PIECE = 2**16  # rows per piece; larger matrix products are not faster
FORMAT = 1  # version of the file format


class Piece(NamedTuple):
    """Consecutive rows: position of the first row, embeddings (B, D) and their squared norms (B,)."""

    start: int
    embedding: Tensor
    norms: Tensor


class GalleryRows:
    """Embeddings (N, D), float32, with an entry of `ABOUT` and an image path per row.

    The arrays reserve space, so that adding rows one by one does not copy the gallery each time.

    Args:
        device: Device of the embeddings.

    Attributes:
        size: Size D of an embedding; 0 until rows are added.
        next_id: Id of the next row; ids are never reused.
        paths: Image paths; empty where unknown.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.size, self.next_id = 0, 0
        self.paths: list[str] = []
        self._about = np.empty(0, ABOUT)
        self._embedding = torch.empty(0, 0, device=device)
        self._norms = torch.empty(0, device=device)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def about(self) -> Any:
        """Entries of `ABOUT` (N,) in ascending order of ids."""
        return self._about[: len(self)]

    def new_entries(self, count: int, labels: dict[str, ArrayLike | Tensor | None]) -> NDArray[Any]:
        """Return `count` entries of `ABOUT` for new rows, with the next ids and the given labels.

        Raises:
            ValueError: If labels are not `count` integers.
        """
        about = np.zeros(count, ABOUT)
        about["id"] = np.arange(self.next_id, self.next_id + count)
        about["pid"], about["camid"] = UNKNOWN, UNKNOWN
        for name, value in labels.items():
            if value is not None:
                about[name] = as_labels(f"{name}s", value, count, f"{count} entries")
        return about

    def append(self, embedding: Tensor, about: NDArray[Any], paths: Sequence[str]) -> None:
        """Append rows. Ids in `about` must be larger than all existing ids."""
        start, stop = len(self), len(self) + len(embedding)
        self.size = embedding.shape[1]
        if stop > len(self._about):
            self._reallocate(max(stop, 3 * len(self._about) // 2))
        self._about[start:stop] = about
        self._write(start, embedding)
        self.paths.extend(paths)

    def pieces(self) -> Iterator[Piece]:
        """Yield all rows in order, a piece at a time."""
        for start in range(0, len(self), PIECE):
            stop = min(start + PIECE, len(self))
            yield Piece(start, self._embedding[start:stop], self._norms[start:stop])

    def at(self, positions: Integers) -> Tensor:
        """Return a copy of the embeddings (B, D) at positions (B,)."""
        return self._embedding[torch.from_numpy(positions).to(self.device)]

    def keep(self, positions: Integers) -> None:
        """Keep only the rows at positions in ascending order; rows are moved in place, one piece at a time."""
        count = len(positions)
        unmoved = int((positions == np.arange(count)).sum())  # the first rows, because positions ascend
        for start in range(unmoved, count, PIECE):
            self._write(start, self.at(positions[start : start + PIECE]))
        self._about[:count] = self.about[positions]
        self.paths = [self.paths[position] for position in positions.tolist()]
        if 2 * count < len(self._about):
            self._reallocate(count)

    def positions(self, ids: Integers) -> Integers:
        """Return the positions (B,) of ids; -1 where an id is unknown."""
        if not len(self):
            return np.full(len(ids), -1)
        row_ids = self.about["id"]
        nearest = np.searchsorted(row_ids, ids).clip(max=len(self) - 1)
        return np.where(row_ids[nearest] == ids, nearest, -1)

    def save(self, file: Path, metadata: Mapping[str, str]) -> None:
        """Write a `.npz` file atomically."""
        file.parent.mkdir(parents=True, exist_ok=True)
        paths = np.frombuffer(b"\0".join(os.fsencode(path) for path in self.paths), np.uint8)
        arrays: dict[str, Any] = {
            "format": FORMAT,
            "next_id": self.next_id,
            **metadata,
            "about": self.about,
            "paths": paths,
        }
        arrays["embedding"] = self._embedding[: len(self)].cpu().numpy()
        with (
            locked(file) as is_locked,
            atomic_path(file, shared=not is_locked) as temporary,
            temporary.open("wb") as stream,
        ):
            np.savez(stream, **arrays)
            stream.flush()
            os.fsync(stream.fileno())  # otherwise a power failure could leave an incomplete file under the new name

    @classmethod
    def load(cls, file: Path, device: torch.device) -> tuple["GalleryRows", dict[str, str]]:
        """Read a file written by `save`, and its metadata. Code in the file never runs.

        Raises:
            ValueError: If the file is invalid or damaged.
        """
        with reading(f"gallery={str(file)!r}", "It must be a file of Gallery.save."):
            return cls._from_arrays(read_arrays(file), device)

    @classmethod
    def _from_arrays(
        cls, arrays: dict[str, NDArray[Any]], device: torch.device
    ) -> tuple["GalleryRows", dict[str, str]]:
        if int(arrays.pop("format")) != FORMAT:
            raise ValueError("unsupported format version, use the reidlit version that wrote it")
        about, embedding, packed = arrays.pop("about"), arrays.pop("embedding"), arrays.pop("paths").tobytes()
        paths = [os.fsdecode(path) for path in packed.split(b"\0")] if len(about) else []
        is_consistent = (
            about.dtype == ABOUT
            and embedding.dtype == np.float32
            and (about.ndim, embedding.ndim) == (1, 2)
            and len(about) == len(paths) == len(embedding)
            and (np.diff(about["id"]) > 0).all()
        )
        if not is_consistent:
            raise ValueError("inconsistent arrays")
        rows = cls(device)
        rows.size, rows.next_id, rows.paths = embedding.shape[1], int(arrays.pop("next_id")), paths
        if paths:  # use the arrays of the file without a copy
            rows._about, rows._embedding = about, torch.from_numpy(embedding).to(device)
            rows._norms = squared_norms(rows._embedding)
        if not rows._norms.isfinite().all():
            raise ValueError("an embedding is not finite")
        return rows, {name: str(value) for name, value in arrays.items()}

    def _write(self, start: int, embedding: Tensor) -> None:
        """Write rows and their squared norms, beginning at position `start`."""
        stop = start + len(embedding)
        self._embedding[start:stop] = embedding
        self._norms[start:stop] = squared_norms(self._embedding[start:stop])

    def _reallocate(self, capacity: int) -> None:
        """Move the rows to arrays with space for `capacity` rows."""
        count = len(self)
        about, embedding = np.empty(capacity, ABOUT), torch.empty(capacity, self.size, device=self.device)
        norms = torch.empty(capacity, device=self.device)
        if count:
            about[:count], embedding[:count] = self._about[:count], self._embedding[:count]
            norms[:count] = self._norms[:count]
        self._about, self._embedding, self._norms = about, embedding, norms
