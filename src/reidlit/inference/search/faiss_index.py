"""Approximate nearest neighbor index of FAISS for galleries with millions of rows."""

from typing import Any

import numpy as np
from torch import Tensor

from reidlit.inference.search.store import GalleryRows, Integers

KINDS = {"faiss": "number of lists to visit", "faiss_hnsw": "number of candidates to keep"}
EFFORT = {"faiss": 32, "faiss_hnsw": 128}
NEIGHBOURS = 32  # edges per node of the graph
SAMPLE = 64  # training rows per list
GROWTH = 4  # rebuild when the gallery has this many times its rows at training, because lists become long


class FaissIndex:
    """FAISS index with eight-bit codes of the embeddings of a gallery, which need a quarter of their memory.

    Building an inverted file (`faiss`) takes about a minute per million rows. A graph (`faiss_hnsw`) takes much longer
    to build and is faster to search.

    Sources: Jeff Johnson, Matthijs Douze, Herve Jegou, "Billion-scale similarity search with GPUs", IEEE Transactions
    on Big Data 2019; Yury Malkov, Dmitry Yashunin, "Efficient and robust approximate nearest neighbor search using
    Hierarchical Navigable Small World graphs", TPAMI 2020.

    Args:
        kind: A key of `KINDS`.
        rows: Gallery rows to index.
        effort: Number of lists to visit in an inverted file, or of candidates to keep in a graph.

    Attributes:
        ids: Ids of all indexed rows (M,) in ascending order, including rows that were removed from the gallery.

    Raises:
        ValueError: If FAISS is not installed.
    """

    def __init__(self, kind: str, rows: GalleryRows, effort: int | None = None) -> None:
        self.faiss = load_faiss(kind)
        self.kind, self.effort, self.learned_from = kind, effort or EFFORT[kind], len(rows)
        self.ids: Integers = np.empty(0, np.int64)
        lists = max(1, min(2 * int(len(rows) ** 0.5), len(rows) // 40))
        sample = min(len(rows), SAMPLE * lists)
        sampled = np.random.default_rng(0).choice(len(rows), sample, replace=False)
        codes = self.faiss.ScalarQuantizer.QT_8bit
        if kind == "faiss":
            # The index does not keep a Python reference to its quantizer, so this object must.
            self.centres = self.faiss.IndexFlatL2(rows.size)
            self.index = self.faiss.IndexIVFScalarQuantizer(self.centres, rows.size, lists, codes)
        else:
            self.index = self.faiss.IndexHNSWSQ(rows.size, codes, NEIGHBOURS)
        self.index.train(rows.at(np.sort(sampled)).cpu().numpy())
        self.add(rows)

    def add(self, rows: GalleryRows) -> None:
        """Index the rows that were added to the gallery since the last call."""
        last_id = self.ids[-1] if len(self.ids) else -1
        for start, embedding, _ in rows.pieces():
            ids = rows.about["id"][start : start + len(embedding)]
            first = int(np.searchsorted(ids, last_id, side="right"))
            if first < len(ids):
                self.index.add(embedding[first:].cpu().numpy())
                self.ids = np.concatenate([self.ids, ids[first:]])

    def outdated(self, rows: GalleryRows) -> bool:
        """Return True if the index must be rebuilt: most rows were removed, or the gallery has grown a lot."""
        return len(rows) > GROWTH * self.learned_from or 2 * len(rows) < len(self.ids)

    def search(self, query: Tensor, k: int, allowed: Integers) -> Integers:
        """Return candidate neighbors.

        Args:
            query: Queries (Q, D).
            k: Number of candidates per query.
            allowed: Ids that may be returned (A,) in ascending order.

        Returns:
            Ids (Q, k), -1 where there are fewer candidates.
        """
        positions = self.index.search(query.cpu().numpy(), k, params=self._parameters(allowed))[1]
        return np.where(positions < 0, -1, self.ids[positions])

    def _parameters(self, allowed: Integers) -> Any:
        selector = None
        if len(allowed) < len(self.ids):
            is_allowed = np.zeros(len(self.ids), np.bool_)
            is_allowed[np.searchsorted(self.ids, allowed)] = True
            selector = self.faiss.IDSelectorBitmap(np.packbits(is_allowed, bitorder="little"))
        if self.kind == "faiss":
            return self.faiss.SearchParametersIVF(sel=selector, nprobe=self.effort)
        return self.faiss.SearchParametersHNSW(sel=selector, efSearch=self.effort)


def load_faiss(kind: str) -> Any:
    """Import and return the `faiss` module.

    Raises:
        ValueError: If FAISS is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ValueError(
            f"index={kind!r} requires FAISS, which is not installed ({error}): run pip install 'reidlit[faiss]' or "
            "use index='exact'."
        ) from error
    return faiss
