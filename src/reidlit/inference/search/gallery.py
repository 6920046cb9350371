"""A gallery that is searched: embeddings of persons, and who comes nearest to a query."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

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
    """Keeps embeddings (N, D) and finds those nearest to a query.

    The search is exact and streams over the gallery: no matrix of all distances exists. Rows have ids that stay when
    others are removed and are never given again. One million rows of 512 numbers take 2 GB.

    Args:
        fingerprint: names what made the embeddings (`FeatureExtractor.fingerprint`); by default that of the extractor or
            of the first `Features` that are added. Others are refused.
        extractor: embeds images that are added or searched for.
        metric: `euclidean` or `cosine`; with `cosine` embeddings are scaled to length one when they are added.
        index: `exact`; or of FAISS (`reidlit[faiss]`) `faiss`, an inverted file, or `faiss_hnsw`, a graph: for millions,
            with neighbours missed (see `recall`) and a quarter more memory. It is built at the first search and is not
            saved. Distances are exact.
        effort: of FAISS: the lists that are looked into, or the candidates that are kept on the way through the graph.
        device: where the embeddings lie and are searched: `cpu`, `cuda`, or `auto` for a GPU if there is one.

    Raises:
        ValueError: if an argument is out of range, or FAISS is needed and not installed.
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
        for name, value, known in (("metric", metric, METRICS), ("index", index, INDEXES)):
            if value not in known:
                raise ValueError(f"{name}={value!r} must be one of {', '.join(known)}.")
        if effort is not None and (index == "exact" or effort < 1):
            raise ValueError(f"effort={effort} must be 1 or more, and belongs to index='faiss' or 'faiss_hnsw'.")
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
        """(N,) of all rows, ascending: in the order in which they were added."""
        ids: Integers = self._rows.about["id"].copy()
        return ids

    @property
    def stamps(self) -> Integers:
        """(N,) the integers that `add` was given."""
        stamps: Integers = self._rows.about["stamp"].copy()
        return stamps

    @property
    def embedding_size(self) -> int | None:
        """D; `None` as long as nothing was added."""
        return self._rows.size or None

    def add(
        self,
        entries: Entries,
        pids: ArrayLike | Tensor | None = None,
        camids: ArrayLike | Tensor | None = None,
        paths: Sequence[str | Path] | None = None,
        stamps: ArrayLike | None = None,
    ) -> Integers:
        """Add rows, all or none.

        Args:
            entries: `Features`, embeddings (N, D), or images.
            pids: (N,) identities, negative where unknown; by default those of the features, or unknown.
            camids: (N,) cameras, likewise; also told to a model that uses cameras.
            paths: (N,) of the images; by default those of the features or of the images.
            stamps: (N,) integers of the caller's, such as the time at which a file was changed.

        Returns:
            (N,) the ids of the rows.

        Raises:
            ValueError: if the embeddings are not finite, of another size or of another model, or lengths differ.
        """
        if isinstance(entries, Features):
            pids = entries.pid if pids is None else pids
            camids = entries.camid if camids is None else camids
            paths = entries.path.tolist() if paths is None else paths
        elif paths is None and are_images(entries):
            paths = [str(image) if isinstance(image, str | Path) else "" for image in as_list(entries)]
        count, batches = self._batches(entries, camids)
        about = self._rows.new_entries(count, {"pid": pids, "camid": camids, "stamp": stamps})
        self._append(batches, about, path_names(paths, count))
        if isinstance(entries, Features):
            self.fingerprint = entries.fingerprint or None
        return about["id"].copy()

    def remove(self, rows: ArrayLike) -> None:
        """Remove rows; what lies behind them moves up, in memory.

        Args:
            rows: ids, or a mask (N,) of booleans in the order of `ids`.

        Raises:
            ValueError: if an id is not there; then nothing is removed.
        """
        given = np.asarray(rows)
        if given.dtype != np.bool_:
            gone = np.zeros(len(self), np.bool_)
            gone[self._positions(given.reshape(-1))] = True
        elif given.shape != (len(self),):
            raise ValueError(f"rows is a mask of the shape {given.shape}, but there are {len(self)} rows.")
        else:
            gone = given
        if gone.any():
            self._rows.keep(np.flatnonzero(~gone))

    def about(self, ids: ArrayLike) -> EntryInfo:
        """Return labels and paths of rows, in the shape of their ids; unknown for an id of -1.

        Raises:
            ValueError: If another id is not in the gallery.
        """
        given = np.asarray(ids)
        flat = given.reshape(-1)
        real = np.flatnonzero(flat != UNKNOWN)
        positions = self._positions(flat[real])
        pids, camids = np.full((2, len(flat)), UNKNOWN)
        pids[real], camids[real] = self._rows.about["pid"][positions], self._rows.about["camid"][positions]
        paths = np.full(len(flat), "", object)
        paths[real] = [self._rows.paths[position] for position in positions.tolist()]
        return EntryInfo(*(values.reshape(given.shape) for values in (pids, camids, paths)))

    def embeddings(self, ids: ArrayLike) -> Tensor:
        """A copy (B, D) of the embeddings of rows (B,); of length one if the metric is `cosine`."""
        return self._filled().at(self._positions(np.asarray(ids).reshape(-1)))

    def save(self, file: str | Path) -> None:
        """Write a .npz file, whole or not at all: a crash leaves the old one as it was.

        Raises:
            ValueError: if the file has another suffix.
        """
        path = Path(file).expanduser()
        if path.suffix != ".npz":
            raise ValueError(f"file={str(file)!r} must end in .npz.")
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
        """Read what `save` has written; no code in it runs. For the arguments see the class.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no such file or not a whole one, or of another model than what is given.
        """
        path = Path(file).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"gallery={str(file)!r} does not exist.")
        rows, notes = GalleryRows.load(path, find_device(device))
        metric: Any = notes.get("metric")
        gallery = cls(notes.get("fingerprint"), None, metric, index, effort, device)
        gallery._rows = rows
        for name, given in (("fingerprint", fingerprint), ("extractor", extractor and extractor.fingerprint)):
            if given:
                gallery._check(name, given)
                gallery.fingerprint = given
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
            k: how many.
            camids: (Q,) the camera of each query, by default that of the features; negative where unknown.
            cameras: look only at images of these cameras.
            not_cameras: leave out images of these cameras.
            cross_camera: leave out what the query's own camera took.
            centroid: compare with one centroid an identity, the mean of its images that are not left out; the identity's
                id is that of the first of them.
            rerank: re-rank the nearest of each query by their k-reciprocal neighbours, among them and the query: other
                queries have no influence.
            rerank_top: how many are re-ranked, k at least.

        Returns:
            ids and distances.

        Raises:
            ValueError: if the gallery is empty, an argument is out of range, the query is of another size or model, or
                cameras or identities are needed that are not known.
        """
        rows = self._filled()
        for name, value in (("k", k), ("rerank_top", rerank_top)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value} must be an integer from 1.")
        if isinstance(query, Features) and camids is None:
            camids = query.camid
        embedding = self._query(query, camids)
        shape = (len(embedding), k)
        result = SearchResult(np.full(shape, UNKNOWN), np.full(shape, np.inf, np.float32))
        for chosen, allowed in filters(rows.about, len(embedding), camids, cameras, not_cameras, cross_camera):
            part = embedding[torch.from_numpy(chosen).to(self.device)]
            within = centroids(rows, allowed, self.metric) if centroid else rows
            listed = k if rerank is None else max(k, rerank_top)
            near = self._nearest(within, part, listed, None if centroid else allowed)
            if rerank is not None:
                near = reranked(rerank, within, part, near, k)
            ids = np.append(within.about["id"], UNKNOWN)  # the last, which -1 stands for
            result.ids[chosen], result.distances[chosen] = ids[near.indices], near.distance
        return result

    def recall(self, query: Entries, k: int = 10) -> float:
        """The share of the exact k nearest that the index finds; 1 for an exact one."""
        rows, embedding = self._filled(), self._query(query, None)
        nearest = exact(rows, embedding, k, self.metric, None).indices
        listed = self._nearest(rows, embedding, k, None).indices
        hits = [np.isin(ids[ids >= 0], others) for ids, others in zip(nearest, listed, strict=True)]
        return float(np.concatenate(hits).mean())

    def _query(self, query: Entries, camids: ArrayLike | Tensor | None) -> Tensor:
        """(Q, D) where the gallery is."""
        given = self._extractor("query")(as_list(query), camids) if are_images(query) else query
        return self._scaled(self._embeddings("query", given)).to(self.device)

    def _nearest(self, rows: GalleryRows, query: Tensor, k: int, allowed: Mask | None) -> Nearest:
        """Of each query (Q, D); centroids are few, so they are not indexed."""
        if self.index == "exact" or rows is not self._rows:
            return exact(rows, query, k, self.metric, allowed)
        if self._faiss is None or self._faiss.outdated(rows):
            self._faiss = FaissIndex(self.index, rows, self.effort)
        else:
            self._faiss.add(rows)
        return approximate(self._faiss, rows, query, k, self.metric, allowed)

    def _check(self, name: str, fingerprint: str) -> None:
        """Refuse embeddings of another model; anything may be the first."""
        if (self.fingerprint or len(self)) and fingerprint != (self.fingerprint or ""):
            raise ValueError(
                f"{name}: the embeddings have the fingerprint {fingerprint or 'none'}, but the gallery has "
                f"{self.fingerprint or 'none'}: another model made them, or another size, flip or normalisation. They "
                "cannot be compared."
            )

    def _extractor(self, name: str) -> FeatureExtractor:
        if self.extractor is None:
            raise ValueError(f"{name} must be features or embeddings (N, D); for images give Gallery(extractor=...).")
        return self.extractor

    def _embeddings(self, name: str, given: Any) -> Tensor:
        if isinstance(given, Features):
            self._check(name, given.fingerprint)
            given = given.embedding
        embedding = as_embeddings(name, given)
        if self._rows.size and embedding.shape[1] != self._rows.size:
            raise ValueError(
                f"{name} have {embedding.shape[1]} dimensions, but the gallery has {self._rows.size}; embed with one model."
            )
        return embedding

    def _scaled(self, embedding: Tensor) -> Tensor:
        return functional.normalize(embedding) if self.metric == "cosine" else embedding

    def _batches(
        self, entries: Entries, camids: ArrayLike | Tensor | None
    ) -> tuple[int, Iterable[tuple[range, Tensor]]]:
        """Return the number of entries, and their embeddings in batches with the positions of these."""
        if are_images(entries):
            images = as_list(entries)
            stream = self._extractor("entries").stream(images, camids)
            return len(images), ((on, self._embeddings("entries", part)) for on, part in stream)
        embedding = self._embeddings("entries", entries)
        return len(embedding), [(range(len(embedding)), embedding)]

    def _append(self, batches: Iterable[tuple[range, Tensor]], about: NDArray[Any], paths: Sequence[str]) -> None:
        """Add all rows, or none after an error or Ctrl-C."""
        before = len(self)
        try:
            for on, part in batches:
                self._rows.append(self._scaled(part), about[on.start : on.stop], paths[on.start : on.stop])
        except BaseException:
            self._rows.keep(np.arange(before))
            raise
        self._rows.next_id += len(about)

    def _filled(self) -> GalleryRows:
        if not len(self._rows):
            raise ValueError("the gallery is empty: add embeddings or images before searching.")
        return self._rows

    def _positions(self, ids: NDArray[Any]) -> Integers:
        if ids.size and ids.dtype.kind not in "iu":
            raise ValueError(f"ids are {ids.dtype}; give integers.")
        positions = self._rows.positions(ids)
        if len(missing := ids[positions < 0]):
            raise ValueError(f"{len(missing)} of {len(ids)} ids are not in the gallery, the first is {missing[0]}.")
        return positions
