"""Storage of embeddings with their labels in files."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.data.sample import Sample, first_frame
from reidlit.files import atomic_path, atomic_write, file_stamp
from reidlit.foreign_files import expanded, read_arrays, reading
from reidlit.locks import locked
from reidlit.tables import read_parquet

SUFFIXES = (".npz", ".parquet")
FLUSH = 64  # batches between two updates of the progress file
POOLS = {"average": np.add, "max": np.maximum}
Array = NDArray[Any]


@dataclass(frozen=True)
class Features:
    """Embeddings with the labels and paths of their images.

    Attributes:
        embedding: Embeddings (N, D), float32.
        path: Image files (N,).
        pid: Identities (N,); -1 where unknown.
        camid: Cameras (N,); negative where unknown, as in `reidlit.evaluate`.
        split: Splits (N,): train, query, gallery, or empty.
        tracklet: Tracklet number of each frame (N,); -1 for images and pooled tracklets.
        fingerprint: Fingerprint of the extractor. Only embeddings with equal fingerprints are comparable.

    Raises:
        ValueError: If the columns have different lengths.
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
                f"embedding has shape {self.embedding.shape} and the columns have lengths {lengths}: must be one row "
                "per image."
            )

    def __len__(self) -> int:
        return len(self.embedding)

    def of_split(self, split: str) -> "Features":
        """Return the rows of one split."""
        chosen = self.split == split
        return Features(**{name: getattr(self, name)[chosen] for name in COLUMNS}, fingerprint=self.fingerprint)

    def pooled(self, way: str) -> "Features":
        """Pool the frames of each tracklet.

        Args:
            way: Pooling of the embeddings, "average" or "max".

        Raises:
            ValueError: If `way` is unknown, or the rows are not frames of tracklets.
        """
        if way not in POOLS:
            raise ValueError(f"temporal={way} is invalid: must be one of {', '.join(POOLS)}.")
        if not len(self) or self.tracklet.min() < 0:
            raise ValueError(
                f"temporal={way} requires frames of tracklets: extract them with reidlit extract data=... frames=true."
            )
        order = np.argsort(self.tracklet, kind="stable")
        _, first = np.unique(self.tracklet[order], return_index=True)
        sums = POOLS[way].reduceat(self.embedding[order], first, axis=0)
        counts = np.diff([*first, len(self)])[:, None] if way == "average" else 1
        columns = {name: getattr(self, name)[order[first]] for name in COLUMNS}
        columns |= {"embedding": (sums / counts).astype(np.float32), "tracklet": np.full(len(first), -1, np.int64)}
        return Features(**columns, fingerprint=self.fingerprint)

    def save(self, file: Path) -> None:
        """Write a .npz or .parquet file atomically.

        Raises:
            ValueError: If the file has another suffix.
        """
        suffix = _suffix(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file) as is_locked, atomic_path(file, shared=not is_locked) as temporary:
            if suffix == ".npz":
                np.savez(temporary, fingerprint=self.fingerprint, **{name: getattr(self, name) for name in COLUMNS})
            else:
                self._write_parquet(temporary)

    @staticmethod
    def load(file: str | Path) -> "Features":
        """Read a file written by `save`. Code in the file never runs.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If the file is invalid or damaged.
        """
        path = expanded(file)
        if not path.is_file():
            raise FileNotFoundError(f"features={str(file)!r} does not exist: create it with reidlit extract.")
        with reading(f"features={str(file)!r}", "Create it with reidlit extract."):
            features = Features(**(_read_npz if _suffix(path) == ".npz" else _read_parquet)(path))
            _check_types(features)
            return features

    def _write_parquet(self, file: Path) -> None:
        import pyarrow as pa  # imported here because it is slow and .npz files do not need it
        import pyarrow.parquet as pq

        size = self.embedding.shape[1]
        flat = pa.array(np.ascontiguousarray(self.embedding, np.float32).reshape(-1))
        columns = {name: pa.array(getattr(self, name)) for name in COLUMNS if name != "embedding"}
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, size)
        pq.write_table(pa.table(columns).replace_schema_metadata({"fingerprint": self.fingerprint}), file)


COLUMNS = tuple(field.name for field in fields(Features) if field.name != "fingerprint")


def of_samples(samples: Sequence[Sample], split: str) -> dict[str, Array]:
    """Return all columns except the embedding for samples of a dataset."""
    return {
        "path": np.array([first_frame(sample.path) for sample in samples]),
        "pid": np.array([sample.pid for sample in samples], np.int64),
        "camid": np.array([sample.camid for sample in samples], np.int64),
        "split": np.full(len(samples), split),
        "tracklet": np.full(len(samples), -1, np.int64),
    }


class PartialFeatures:
    """Embeddings of an unfinished extraction, stored on disk so that it can resume.

    Args:
        file: File of the finished features. The partial embeddings are stored next to it.
        paths: Image paths, or the frames of each tracklet.
        size: Size D of an embedding.
        fingerprint: Fingerprint of the extractor.

    Attributes:
        done: Number of stored embeddings of the same versions of the same images by the same extractor.
        embedding: Embeddings (N, D), float32, memory-mapped.
    """

    def __init__(self, file: Path, paths: Sequence[str | tuple[str, ...]], size: int, fingerprint: str) -> None:
        self.data, self.progress_file = _partial_files(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        self.metadata: dict[str, Any] = {
            "images": len(paths),
            "first": first_frame(paths[0]),
            "last": first_frame(paths[-1]),
            "hash": _digest(paths),
            "size": size,
            "fingerprint": fingerprint,
        }
        self.done = self._read_progress()
        shape = (len(paths), size)
        self.embedding: Any = np.memmap(self.data, np.float32, "r+" if self.done else "w+", shape=shape)

    def fill(self, batches: Iterable[tuple[range, Any]]) -> None:
        """Store batches of embeddings (B, D) at the positions of their images."""
        for number, (positions, embedding) in enumerate(batches, start=1):
            self.embedding[positions.start : positions.stop] = embedding
            if number % FLUSH == 0:
                self._flush(positions.stop)
        self._flush(len(self.embedding))

    @staticmethod
    def clear(file: Path) -> None:
        """Remove the partial files after the finished file was written."""
        for path in _partial_files(file):
            path.unlink(missing_ok=True)

    def _flush(self, done: int) -> None:
        self.embedding.flush()
        atomic_write(self.progress_file, json.dumps(self.metadata | {"done": done}))

    def _read_progress(self) -> int:
        try:
            progress = json.loads(self.progress_file.read_text())
            done = int(progress.pop("done"))
            size = self.metadata["images"] * self.metadata["size"] * 4
            is_same = progress == self.metadata and self.data.stat().st_size == size
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return 0
        return done if is_same else 0


def _partial_files(file: Path) -> tuple[Path, Path]:
    """Return the paths of the partial embeddings and of the progress file."""
    return file.with_name(f".{file.name}.embedding"), file.with_name(f".{file.name}.json")


def _digest(paths: Sequence[str | tuple[str, ...]]) -> str:
    """Return a hash of the names and versions of all images."""
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        for frame in (path,) if isinstance(path, str) else path:
            digest.update(os.fsencode(frame) + f"\0{file_stamp(frame)}\0".encode())
    return digest.hexdigest()


def _suffix(file: Path) -> str:
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{str(file)!r} has an unsupported suffix: must end in {' or '.join(SUFFIXES)}.")
    return file.suffix


def _check_types(features: Features) -> None:
    """Check the types of columns that come from a file.

    Raises:
        ValueError: If a column has another type than `Features.save` writes.
    """
    kinds = {"embedding": "f", "path": "U", "pid": "iu", "camid": "iu", "split": "U", "tracklet": "iu"}
    for name, kind in kinds.items():
        column = getattr(features, name)
        if len(features) and (column.ndim != 1 + (name == "embedding") or column.dtype.kind not in kind):
            raise ValueError(f"{name} has shape {column.shape} and dtype {column.dtype}")


def _read_npz(file: Path) -> dict[str, Any]:
    content = read_arrays(file, (*COLUMNS, "fingerprint"))
    return content | {"fingerprint": str(content["fingerprint"])}


def _read_parquet(file: Path) -> dict[str, Any]:
    table = read_parquet(file)
    fingerprint = (table.schema.metadata or {})[b"fingerprint"].decode()
    lists = table["embedding"].combine_chunks()
    embedding = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), -1)
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in COLUMNS if name != "embedding"}
    texts = {name: columns[name].astype(str) for name in ("path", "split")}
    return {**columns, **texts, "embedding": embedding, "fingerprint": fingerprint}
