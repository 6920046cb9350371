"""Searchable gallery of person embeddings."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from reidlit.foreign_files import expanded
from reidlit.inference.device import find_device
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.features import Features
from reidlit.inference.image_inputs import as_list
from reidlit.inference.search.entries import Entries, EntryInfo, SearchResult, are_images, path_names
from reidlit.inference.search.faiss_index import KINDS, FaissIndex, load_faiss
from reidlit.inference.search.ranking import Mask, approximate, centroids, exact, filters, reranked
from reidlit.inference.search.store import GalleryRows, Integers
from reidlit.labels import UNKNOWN
from reidlit.metrics.distance import METRICS
from reidlit.metrics.inputs import as_embeddings
from reidlit.metrics.nearest import Nearest
from reidlit.metrics.rerank.k_reciprocal import KReciprocal

INDEXES = ("exact", *KINDS)


class Gallery:
    """An index of embeddings (N, D) that finds the nearest rows of a query.

    The search is exact by default and processes the gallery in tiles, without a matrix of all distances. Each row has
    an id, which stays valid when other rows are removed and is never reused. One million rows with D = 512 need 2 GB.

    Args:
        fingerprint: Fingerprint of the model and options that computed the embeddings
            (`FeatureExtractor.fingerprint`); other embeddings are refused. Default: the fingerprint of the extractor,
            or of the first `Features` that are added.
        extractor: Feature extractor for images that are added or searched for.
        metric: `euclidean` or `cosine`. With `cosine`, embeddings are scaled to unit length when they are added.
        index: `exact`, or an approximate index of FAISS (`reidlit[faiss]`) for millions of rows: `faiss` (inverted
            file) or `faiss_hnsw` (graph). FAISS may miss neighbors (see `recall`) and needs a quarter more memory. It
            is built by the first search and not saved. Returned distances are exact.
        effort: Search effort of FAISS: number of lists to visit, or of candidates to keep in the graph.
        device: Device of the embeddings: `cpu`, `cuda`, or `auto` for a GPU if one is available.

    Raises:
        ValueError: If an argument is invalid, or FAISS is required and not installed.

    Example:
        >>> import torch
        >>> from reidlit import Gallery
        >>> gallery = Gallery(metric="cosine")
        >>> ids = gallery.add(torch.eye(3), pids=[7, 8, 9], paths=["a.jpg", "b.jpg", "c.jpg"])
        >>> result = gallery.search(torch.tensor([[0.1, 1.0, 0.0]]), k=1)
        >>> gallery.about(result.ids).pids.tolist()
        [[8]]
    """

    def __init__(
        self,
        fingerprint: str | None = None,
        extractor: FeatureExtractor | None = None,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        index: Literal["exact", "faiss", "faiss_hnsw"] = "exact",
        effort: int | None = None,
        device: str = "cpu",
    ) -> None:
        for name, value, choices in (("metric", metric, METRICS), ("index", index, INDEXES)):
            if value not in choices:
                raise ValueError(f"{name}={value!r} is invalid: must be one of {', '.join(choices)}.")
        if effort is not None and (index == "exact" or effort < 1):
            raise ValueError(
                f"effort={effort} is invalid with index={index!r}: must be at least 1, and requires index='faiss' or "
                "index='faiss_hnsw'."
            )
        if index != "exact":
            load_faiss(index)
        self.extractor, self.metric, self.index, self.effort = extractor, metric, index, effort
        self.device = find_device(device)
        self.fingerprint = fingerprint or (extractor.fingerprint if extractor else None)
        self._rows = GalleryRows(self.device)
        self._faiss: FaissIndex | None = None
        if extractor is not None:
            self._check("extractor", extractor.fingerprint)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def ids(self) -> Integers:
        """Ids of all rows (N,) in ascending order, which is the order of addition."""
        ids: Integers = self._rows.about["id"].copy()
        return ids

    @property
    def stamps(self) -> Integers:
        """Stamps of all rows (N,), as passed to `add`."""
        stamps: Integers = self._rows.about["stamp"].copy()
        return stamps

    @property
    def embedding_size(self) -> int | None:
        """Size D of an embedding; None until rows are added."""
        return self._rows.size or None

    def add(
        self,
        entries: Entries,
        pids: ArrayLike | Tensor | None = None,
        camids: ArrayLike | Tensor | None = None,
        paths: Sequence[str | Path] | None = None,
        stamps: ArrayLike | None = None,
    ) -> Integers:
        """Add rows. If an error occurs, no row is added.

        Args:
            entries: `Features`, embeddings (N, D), or images.
            pids: Identities (N,); negative where unknown. Default: the identities of the features, or unknown.
            camids: Cameras (N,); negative where unknown. Default: the cameras of the features, or unknown. The
                extractor receives them too if its model uses cameras.
            paths: Image paths (N,). Default: the paths of the features or images.
            stamps: Integers (N,) for use by the caller, such as modification times.

        Returns:
            Ids of the new rows (N,).

        Raises:
            ValueError: If embeddings are not finite, have another size or fingerprint, or lengths differ.
        """
        if isinstance(entries, Features):
            pids = entries.pid if pids is None else pids
            camids = entries.camid if camids is None else camids
            paths = entries.path.tolist() if paths is None else paths
        elif paths is None and are_images(entries):
            paths = [str(image) if isinstance(image, str | Path) else "" for image in as_list(entries)]
        count, batches = self._batches(entries, camids)
        new_rows = self._rows.new_entries(count, {"pid": pids, "camid": camids, "stamp": stamps})
        self._append(batches, new_rows, path_names(paths, count))
        if isinstance(entries, Features):
            self.fingerprint = entries.fingerprint or None
        return new_rows["id"].copy()

    def remove(self, rows: ArrayLike) -> None:
        """Remove rows.

        Args:
            rows: Ids, or a boolean mask (N,) in the order of `ids`.

        Raises:
            ValueError: If an id is not in the gallery; then no row is removed.
        """
        ids_or_mask = np.asarray(rows)
        if ids_or_mask.dtype != np.bool_:
            removed = np.zeros(len(self), np.bool_)
            removed[self._positions(ids_or_mask.reshape(-1))] = True
        elif ids_or_mask.shape != (len(self),):
            raise ValueError(f"rows is a mask of shape {ids_or_mask.shape}: must be ({len(self)},), one value per row.")
        else:
            removed = ids_or_mask
        if removed.any():
            self._rows.keep(np.flatnonzero(~removed))

    def about(self, ids: ArrayLike) -> EntryInfo:
        """Return labels and paths of rows in the shape of `ids`; unknown for the id -1.

        Raises:
            ValueError: If another id is not in the gallery.
        """
        id_array = np.asarray(ids)
        flat = id_array.reshape(-1)
        known = np.flatnonzero(flat != UNKNOWN)
        positions = self._positions(flat[known])
        pids, camids = np.full((2, len(flat)), UNKNOWN)
        pids[known], camids[known] = self._rows.about["pid"][positions], self._rows.about["camid"][positions]
        paths = np.full(len(flat), "", object)
        paths[known] = [self._rows.paths[position] for position in positions.tolist()]
        return EntryInfo(*(values.reshape(id_array.shape) for values in (pids, camids, paths)))

    def embeddings(self, ids: ArrayLike) -> Tensor:
        """Return a copy (B, D) of the embeddings of rows (B,), with unit length if the metric is `cosine`."""
        return self._nonempty_rows().at(self._positions(np.asarray(ids).reshape(-1)))

    def save(self, file: str | Path) -> None:
        """Write a .npz file atomically: a crash does not damage an existing file.

        Raises:
            ValueError: If the file does not end in .npz.
        """
        path = expanded(file)
        if path.suffix != ".npz":
            raise ValueError(f"file={str(file)!r} has an unsupported suffix: must end in .npz.")
        self._rows.save(path, {"fingerprint": self.fingerprint or "", "metric": self.metric})

    @classmethod
    def load(
        cls,
        file: str | Path,
        fingerprint: str | None = None,
        extractor: FeatureExtractor | None = None,
        index: Literal["exact", "faiss", "faiss_hnsw"] = "exact",
        effort: int | None = None,
        device: str = "cpu",
    ) -> "Gallery":
        """Read a file written by `save`. Code in the file never runs.

        Args:
            file: Gallery file.
            fingerprint: Expected fingerprint of the embeddings.
            extractor: Feature extractor for images, with the same fingerprint.
            index: Type of index; see the class.
            effort: Search effort of FAISS.
            device: Device of the embeddings.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If the file is invalid or damaged, or its fingerprint differs from the expected one.
        """
        path = expanded(file)
        if not path.is_file():
            raise FileNotFoundError(f"gallery={str(file)!r} does not exist: create it with Gallery.save.")
        rows, notes = GalleryRows.load(path, find_device(device))
        metric: Any = notes.get("metric")
        if metric not in METRICS:
            raise ValueError(f"gallery={str(file)!r} has metric={metric!r}: must be one of {', '.join(METRICS)}.")
        gallery = cls(notes.get("fingerprint"), None, metric, index, effort, device)
        gallery._rows = rows
        for name, expected in (("fingerprint", fingerprint), ("extractor", extractor and extractor.fingerprint)):
            if expected:
                gallery._check(name, expected)
                gallery.fingerprint = expected
        gallery.extractor = extractor
        return gallery

    def search(
        self,
        query: Entries,
        k: int = 10,
        camids: ArrayLike | Tensor | None = None,
        cameras: Sequence[int] | None = None,
        not_cameras: Sequence[int] | None = None,
        cross_camera: bool = False,
        centroid: bool = False,
        rerank: KReciprocal | None = None,
        rerank_top: int = 100,
    ) -> SearchResult:
        """Find the nearest rows of each query.

        Args:
            query: `Features`, embeddings (Q, D), or images.
            k: Number of rows per query.
            camids: Camera of each query (Q,); negative where unknown. Default: the cameras of the features.
            cameras: Cameras to search; others are skipped.
            not_cameras: Cameras to skip.
            cross_camera: Whether to skip rows from the camera of the query.
            centroid: Whether to compare queries with one centroid per identity, the mean of its remaining rows. The id
                in the result is that of its first row.
            rerank: Re-ranking by k-reciprocal neighbors, applied to the nearest rows of each query separately.
            rerank_top: Number of rows to re-rank, at least `k`.

        Returns:
            Ids and distances.

        Raises:
            ValueError: If the gallery is empty, an argument is invalid, the query has another size or fingerprint, or
                required cameras or identities are unknown.
        """
        rows = self._nonempty_rows()
        for name, value in (("k", k), ("rerank_top", rerank_top)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value} is invalid: must be an integer of at least 1.")
        if isinstance(query, Features) and camids is None:
            camids = query.camid
        embedding = self._query(query, camids)
        shape = (len(embedding), k)
        result = SearchResult(np.full(shape, UNKNOWN), np.full(shape, np.inf, np.float32))
        for queries, allowed in filters(rows.about, len(embedding), camids, cameras, not_cameras, cross_camera):
            subset = embedding[torch.from_numpy(queries).to(self.device)]
            rows_to_search = centroids(rows, allowed, self.metric) if centroid else rows
            count = k if rerank is None else max(k, rerank_top)
            nearest = self._nearest(rows_to_search, subset, count, None if centroid else allowed)
            if rerank is not None:
                nearest = reranked(rerank, rows_to_search, subset, nearest, k)
            ids = np.append(rows_to_search.about["id"], UNKNOWN)  # so that position -1 maps to an unknown id
            result.ids[queries], result.distances[queries] = ids[nearest.indices], nearest.distance
        return result

    def recall(self, query: Entries, k: int = 10) -> float:
        """Return the fraction of the exact `k` nearest rows that the index finds; 1 for an exact index."""
        rows, embedding = self._nonempty_rows(), self._query(query, None)
        nearest = exact(rows, embedding, k, self.metric, None).indices
        candidates = self._nearest(rows, embedding, k, None).indices
        hits = [np.isin(ids[ids >= 0], found) for ids, found in zip(nearest, candidates, strict=True)]
        return float(np.concatenate(hits).mean())

    def _query(self, query: Entries, camids: ArrayLike | Tensor | None) -> Tensor:
        """Embed queries if they are images, and return (Q, D) on the device of the gallery."""
        vectors = self._extractor("query")(as_list(query), camids) if are_images(query) else query
        return self._scaled(self._embeddings("query", vectors)).to(self.device)

    def _nearest(self, rows: GalleryRows, query: Tensor, k: int, allowed: Mask | None) -> Nearest:
        """Find the nearest rows of queries (Q, D). Centroids are few, so they are always searched exactly."""
        if self.index == "exact" or rows is not self._rows:
            return exact(rows, query, k, self.metric, allowed)
        if self._faiss is None or self._faiss.outdated(rows):
            self._faiss = FaissIndex(self.index, rows, self.effort)
        else:
            self._faiss.add(rows)
        return approximate(self._faiss, rows, query, k, self.metric, allowed)

    def _check(self, name: str, fingerprint: str) -> None:
        """Raise an error if embeddings come from another model; the first embeddings may come from any."""
        if (self.fingerprint or len(self)) and fingerprint != (self.fingerprint or ""):
            raise ValueError(
                f"{name} has fingerprint {fingerprint or 'none'}, but the gallery has {self.fingerprint or 'none'}: "
                "their embeddings are not comparable. Use the same weights, image size, flip and normalize for both."
            )

    def _extractor(self, name: str) -> FeatureExtractor:
        if self.extractor is None:
            raise ValueError(
                f"{name} contains images, but the gallery has no extractor: pass Gallery(extractor=...), features, or "
                "embeddings (N, D)."
            )
        return self.extractor

    def _embeddings(self, name: str, vectors: Any) -> Tensor:
        if isinstance(vectors, Features):
            self._check(name, vectors.fingerprint)
            vectors = vectors.embedding
        embedding = as_embeddings(name, vectors)
        if self._rows.size and embedding.shape[1] != self._rows.size:
            raise ValueError(
                f"{name} has {embedding.shape[1]} dimensions, but the gallery has {self._rows.size}: use the same "
                "model for both."
            )
        return embedding

    def _scaled(self, embedding: Tensor) -> Tensor:
        return functional.normalize(embedding) if self.metric == "cosine" else embedding

    def _batches(
        self, entries: Entries, camids: ArrayLike | Tensor | None
    ) -> tuple[int, Iterable[tuple[range, Tensor]]]:
        """Return the number of entries, and batches of positions and embeddings."""
        if are_images(entries):
            images = as_list(entries)
            stream = self._extractor("entries").stream(images, camids)
            return len(images), ((span, self._embeddings("entries", batch)) for span, batch in stream)
        embedding = self._embeddings("entries", entries)
        return len(embedding), [(range(len(embedding)), embedding)]

    def _append(self, batches: Iterable[tuple[range, Tensor]], new_rows: NDArray[Any], paths: Sequence[str]) -> None:
        """Add all rows, or none after an error or Ctrl-C."""
        count = len(self)
        try:
            for span, embedding in batches:
                self._rows.append(
                    self._scaled(embedding), new_rows[span.start : span.stop], paths[span.start : span.stop]
                )
        except BaseException:
            self._rows.keep(np.arange(count))
            raise
        self._rows.next_id += len(new_rows)

    def _nonempty_rows(self) -> GalleryRows:
        if not len(self._rows):
            raise ValueError("The gallery is empty: add embeddings or images before searching.")
        return self._rows

    def _positions(self, ids: NDArray[Any]) -> Integers:
        if ids.size and ids.dtype.kind not in "iu":
            raise ValueError(f"ids has dtype {ids.dtype}: must be integers.")
        positions = self._rows.positions(ids)
        if len(missing := ids[positions < 0]):
            raise ValueError(
                f"{len(missing)} of {len(ids)} ids are not in the gallery, for example {missing[0]}: see Gallery.ids."
            )
        return positions
