"""Embeddings in memory and in a file: pieces that never move when others are added, and what is known of each row."""

import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from reidlit.metrics.inputs import squared_norms

Integers = NDArray[np.int64]
ABOUT = np.dtype([(name, "<i8") for name in ("id", "pid", "camid", "stamp")])
PIECE = 2**16  # rows; a product with more gains nothing
FORMAT = 1  # of the file
READ = 2**24  # bytes at a time
# What reading a cut, changed or foreign archive leads to.
DAMAGE = (
    *(OSError, KeyError, IndexError, TypeError, ValueError, EOFError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


class Piece(NamedTuple):
    """Rows that lie together: embeddings (B, D), their squared lengths (B,), and the position of the first."""

    start: int
    embedding: Tensor
    norms: Tensor


class GalleryRows:
    """Embeddings (N, D) float32 in pieces, so that adding copies nothing that is there, and an entry of `ABOUT` each.

    Args:
        size: D.
        device: where the embeddings lie.

    Attributes:
        next_id: what the next row is called; never given twice.
        paths: of the images; empty where none is known.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.size, self.device = size, device
        self.next_id = 0
        self.paths: list[str] = []
        self._pieces: list[Piece] = []
        self._about = np.empty(1024, ABOUT)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def about(self) -> Any:
        """(N,) of `ABOUT`; ids ascend."""
        return self._about[: len(self)]

    def append(self, embedding: Tensor, about: NDArray[Any], paths: Sequence[str]) -> None:
        """Add rows; the ids in `about` are above those that are there."""
        start, stop = len(self), len(self) + len(embedding)
        if stop > len(self._about):
            self._about = np.resize(self._about, max(stop, 2 * len(self._about)))
        self._about[start:stop] = about
        while PIECE * len(self._pieces) < stop:
            room = torch.empty(PIECE, self.size, device=self.device)  # the system gives memory when it is written to
            self._pieces.append(Piece(PIECE * len(self._pieces), room, torch.empty(PIECE, device=self.device)))
        self._write(start, embedding)
        self.paths.extend(paths)

    def pieces(self) -> Iterator[Piece]:
        """All rows, in order."""
        for start, embedding, norms in self._pieces:
            count = min(PIECE, len(self) - start)
            yield Piece(start, embedding[:count], norms[:count])

    def at(self, positions: Integers) -> Tensor:
        """A copy (B, D) of the embeddings at some positions (B,)."""
        found = torch.empty(len(positions), self.size, device=self.device)
        piece = positions // PIECE
        for number in np.unique(piece):
            chosen = torch.from_numpy(np.flatnonzero(piece == number)).to(self.device)
            rows = torch.from_numpy(positions[piece == number] - PIECE * number).to(self.device)
            found[chosen] = self._pieces[number].embedding[rows]
        return found

    def keep(self, positions: Integers) -> None:
        """Drop all rows but those at some positions, ascending; they move up, a piece at a time."""
        unmoved = int((positions == np.arange(len(positions))).sum())  # ascending, so all others lie behind these
        self._about[: len(positions)] = self.about[positions]
        for start in range(unmoved, len(positions), PIECE):
            self._write(start, self.at(positions[start : start + PIECE]))
        self.paths = [self.paths[position] for position in positions.tolist()]
        del self._pieces[-(-len(positions) // PIECE) :]

    def positions(self, ids: Integers) -> Integers:
        """Where rows with some ids (B,) stand; -1 for an id that is not there."""
        if not len(self):
            return np.full(len(ids), -1)
        known = self.about["id"]
        found = np.searchsorted(known, ids).clip(max=len(self) - 1)
        return np.where(known[found] == ids, found, -1)

    def save(self, file: Path, notes: dict[str, str]) -> None:
        """Write a .npz file, whole or not at all; the embeddings go to it from where they are."""
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.part")
        try:
            with part.open("wb") as opened:
                with zipfile.ZipFile(opened, "w", zipfile.ZIP_STORED) as archive:
                    self._save(archive, notes)
                opened.flush()
                os.fsync(opened.fileno())
            part.replace(file)
            _sync_folder(file.parent)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, file: Path, device: torch.device) -> tuple["GalleryRows", dict[str, str]]:
        """Read what `save` has written, and its notes. No code in it runs.

        Raises:
            ValueError: if it is no such file, or not a whole one.
        """
        try:
            with zipfile.ZipFile(file) as archive:
                return cls._load(archive, device)
        except DAMAGE as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{str(file)!r} is no saved gallery, or is damaged ({reason}).") from error

    def _write(self, start: int, embedding: Tensor) -> None:
        """Write rows over what lies from `start` on, and their lengths."""
        while len(embedding):
            number, first = divmod(start, PIECE)
            part = embedding[: PIECE - first]
            _, rows, norms = self._pieces[number]
            rows[first : first + len(part)] = part
            norms[first : first + len(part)] = squared_norms(rows[first : first + len(part)])
            start, embedding = start + len(part), embedding[len(part) :]

    def _save(self, archive: zipfile.ZipFile, notes: dict[str, str]) -> None:
        paths = np.frombuffer(b"\0".join(os.fsencode(path) for path in self.paths), np.uint8)
        told = {"format": FORMAT, "next_id": self.next_id, **notes}
        small = {**{name: np.array(value) for name, value in told.items()}, "about": self.about, "paths": paths}
        for name, values in small.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as opened:
                npy.write_array(opened, np.asanyarray(values), allow_pickle=False)
        with archive.open("embedding.npy", "w", force_zip64=True) as opened:
            shape = {"shape": (len(self), self.size), "fortran_order": False, "descr": "<f4"}
            npy.write_array_header_1_0(opened, shape)
            for piece in self.pieces():
                opened.write(piece.embedding.cpu().numpy().data.cast("B"))

    @classmethod
    def _load(cls, archive: zipfile.ZipFile, device: torch.device) -> tuple["GalleryRows", dict[str, str]]:
        found = {}
        for name in archive.namelist():
            if name != "embedding.npy":
                with archive.open(name) as opened:
                    found[name.removesuffix(".npy")] = npy.read_array(opened, allow_pickle=False)
        if int(found.pop("format")) != FORMAT:
            raise ValueError("another version of reidlit wrote it")
        about, packed = found.pop("about"), found.pop("paths").tobytes()
        paths = [os.fsdecode(path) for path in packed.split(b"\0")] if len(about) else []
        if about.dtype != ABOUT or len(paths) != len(about) or (np.diff(about["id"]) <= 0).any():
            raise ValueError("its parts do not fit together")
        next_id = int(found.pop("next_id"))
        with archive.open("embedding.npy") as opened:
            npy.read_magic(opened)
            (count, size), in_columns, dtype = npy.read_array_header_1_0(opened)
            expected = opened.tell() + count * size * 4
            if count != len(about) or in_columns or dtype != np.float32 or expected != _size(archive):
                raise ValueError("its parts do not fit together")
            rows = cls(size, device)
            for start in range(0, count, PIECE):
                stop = min(start + PIECE, count)
                rows.append(_read(opened, stop - start, size), about[start:stop], paths[start:stop])
        if not all(piece.norms.isfinite().all() for piece in rows.pieces()):
            raise ValueError("an embedding is not finite")
        rows.next_id = next_id
        return rows, {name: str(value) for name, value in found.items()}


def _size(archive: zipfile.ZipFile) -> int:
    return archive.getinfo("embedding.npy").file_size


def _read(opened: IO[bytes], count: int, size: int) -> Tensor:
    """Embeddings (count, size) from a file."""
    values = np.empty((count, size), np.float32)
    room = values.data.cast("B") if values.size else memoryview(b"")
    done = 0
    while done < len(room):
        data = opened.read(min(READ, len(room) - done))
        if not data:
            raise EOFError("it ends too early")
        room[done : done + len(data)] = data
        done += len(data)
    return torch.from_numpy(values)


def _sync_folder(folder: Path) -> None:
    """See that a renaming outlasts a loss of power, where the system can."""
    if os.name != "posix":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
