"""Embeddings of many images, kept in files."""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.data.sample import Sample, first_frame
from reidlit.files import atomic_path, atomic_write

SUFFIXES = (".npz", ".parquet")
FLUSH = 64  # batches after which what is done is noted
POOLS = {"average": np.add, "max": np.maximum}
Array = NDArray[Any]


@dataclass(frozen=True)
class Features:
    """Embeddings and what they are of.

    Attributes:
        embedding: (N, D) float32.
        path: (N,) the image files.
        pid: (N,) identities, -1 where none is known.
        camid: (N,) cameras, negative where none is known, as in `reidlit.evaluate`.
        split: (N,) train, query, gallery, or empty.
        tracklet: (N,) the number of the tracklet that a frame is of; -1 of images and of whole tracklets.
        fingerprint: of the extractor; embeddings of another cannot be compared with these.

    Raises:
        ValueError: if the lengths differ.
    """

    embedding: Array
    path: Array
    pid: Array
    camid: Array
    split: Array
    tracklet: Array
    fingerprint: str

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in COLUMNS}
        if self.embedding.ndim != 2 or len(set(lengths.values())) > 1:
            raise ValueError(
                f"features do not fit together: embedding is {self.embedding.shape}, lengths are {lengths}."
            )

    def __len__(self) -> int:
        return len(self.embedding)

    def of_split(self, split: str) -> "Features":
        """Those of one split."""
        chosen = self.split == split
        return Features(**{name: getattr(self, name)[chosen] for name in COLUMNS}, fingerprint=self.fingerprint)

    def pooled(self, way: str) -> "Features":
        """Tracklets instead of their frames: by the mean ("average") or the largest value ("max") of the embeddings.

        Raises:
            ValueError: if these are no frames, or there is no such way.
        """
        if way not in POOLS:
            raise ValueError(f"temporal={way} must be one of {', '.join(POOLS)}.")
        if not len(self) or self.tracklet.min() < 0:
            raise ValueError(
                "temporal= pools frames of tracklets: write them with reidlit extract data=... frames=true."
            )
        order = np.argsort(self.tracklet, kind="stable")
        _, first = np.unique(self.tracklet[order], return_index=True)
        sums = POOLS[way].reduceat(self.embedding[order], first, axis=0)
        counts = np.diff([*first, len(self)])[:, None] if way == "average" else 1
        kept = {name: getattr(self, name)[order[first]] for name in COLUMNS}
        kept |= {"embedding": (sums / counts).astype(np.float32), "tracklet": np.full(len(first), -1, np.int64)}
        return Features(**kept, fingerprint=self.fingerprint)

    def save(self, file: Path) -> None:
        """Write a .npz or a .parquet file, whole or not at all.

        Raises:
            ValueError: if the file has another suffix.
        """
        suffix = _suffix(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as part:
            if suffix == ".npz":
                np.savez(part, fingerprint=self.fingerprint, **{name: getattr(self, name) for name in COLUMNS})
            else:
                self._write_parquet(part)

    @staticmethod
    def load(file: str | Path) -> "Features":
        """Read what `save` has written. No code in it runs.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no such file, or not a whole one.
        """
        path = Path(file).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"features={str(file)!r} does not exist: write it with reidlit extract.")
        try:
            return Features(**(_read_npz if _suffix(path) == ".npz" else _read_parquet)(path))
        except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"features={str(file)!r} is no file of reidlit extract, or is damaged ({str(error).splitlines()[0]})."
            ) from error

    def _write_parquet(self, file: Path) -> None:
        import pyarrow as pa  # slow to import, and not needed for .npz
        import pyarrow.parquet as pq

        size = self.embedding.shape[1]
        flat = pa.array(np.ascontiguousarray(self.embedding, np.float32).reshape(-1))
        columns = {name: pa.array(getattr(self, name)) for name in COLUMNS if name != "embedding"}
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, size)
        pq.write_table(pa.table(columns).replace_schema_metadata({"fingerprint": self.fingerprint}), file)


COLUMNS = tuple(field.name for field in fields(Features) if field.name != "fingerprint")


def of_samples(samples: Sequence[Sample], split: str) -> dict[str, Array]:
    """The columns beside the embedding of some samples of a dataset."""
    return {
        "path": np.array([first_frame(sample.path) for sample in samples]),
        "pid": np.array([sample.pid for sample in samples], np.int64),
        "camid": np.array([sample.camid for sample in samples], np.int64),
        "split": np.full(len(samples), split),
        "tracklet": np.full(len(samples), -1, np.int64),
    }


class PartialFeatures:
    """Embeddings in the making, kept on disk so that an interrupted run can resume.

    Args:
        file: File of the finished features; the embeddings are next to it until then.
        paths: Image paths.
        size: D.
        fingerprint: Fingerprint of the extractor.

    Attributes:
        done: Number of embeddings that exist already, of the same images by the same extractor.
        embedding: (N, D) float32, memory-mapped.
    """

    def __init__(self, file: Path, paths: Sequence[str], size: int, fingerprint: str) -> None:
        self.data, self.note = _partial_files(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        self.about: dict[str, Any] = {
            "images": len(paths),
            "first": paths[0],
            "last": paths[-1],
            "hash": _digest(paths),
            "size": size,
            "fingerprint": fingerprint,
        }
        self.done = self._read_progress()
        shape = (len(paths), size)
        self.embedding: Any = np.memmap(self.data, np.float32, "r+" if self.done else "w+", shape=shape)

    def fill(self, batches: Iterable[tuple[range, Any]]) -> None:
        """Store batches of embeddings (B, D), given with the positions of their images."""
        for number, (positions, embedding) in enumerate(batches, start=1):
            self.embedding[positions.start : positions.stop] = embedding
            if number % FLUSH == 0:
                self._flush(positions.stop)
        self._flush(len(self.embedding))

    @staticmethod
    def clear(file: Path) -> None:
        """Remove the partial embeddings of a file that has been written."""
        for path in _partial_files(file):
            path.unlink(missing_ok=True)

    def _flush(self, done: int) -> None:
        self.embedding.flush()
        atomic_write(self.note, json.dumps(self.about | {"done": done}))

    def _read_progress(self) -> int:
        try:
            note = json.loads(self.note.read_text())
            done = int(note.pop("done"))
            same = note == self.about and self.data.stat().st_size == self.about["images"] * self.about["size"] * 4
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return 0
        return done if same else 0


def _partial_files(file: Path) -> tuple[Path, Path]:
    """Return the paths of the partial embeddings and of the note that counts them."""
    return file.with_name(f".{file.name}.embedding"), file.with_name(f".{file.name}.json")


def _digest(paths: Sequence[str]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        digest.update(os.fsencode(path) + b"\0")
    return digest.hexdigest()


def _suffix(file: Path) -> str:
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{str(file)!r} must end in {' or '.join(SUFFIXES)}.")
    return file.suffix


def _read_npz(file: Path) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as content:
        return {name: content[name] for name in COLUMNS} | {"fingerprint": str(content["fingerprint"])}


def _read_parquet(file: Path) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
        fingerprint = (table.schema.metadata or {})[b"fingerprint"].decode()
        lists = table["embedding"].combine_chunks()
        embedding = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), -1)
    except (pa.ArrowInvalid, AttributeError) as error:
        raise OSError(str(error)) from error
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in COLUMNS if name != "embedding"}
    texts = {name: columns[name].astype(str) for name in ("path", "split")}
    return {**columns, **texts, "embedding": embedding, "fingerprint": fingerprint}
