"""FAISS as an index of a gallery of millions: it proposes neighbours, of which few are missed."""

from typing import Any

import numpy as np
from torch import Tensor

from reidlit.inference.search.store import GalleryRows, Integers

KINDS = {"faiss": "lists that are looked into", "faiss_hnsw": "candidates that are kept on the way"}
EFFORT = {"faiss": 32, "faiss_hnsw": 128}
NEIGHBOURS = 32  # edges of a node of the graph
SAMPLE = 64  # rows a list that the lists are learned from
GROWTH = 4  # times the size at which lists were learned; with more rows they get long


class FaissIndex:
    """Eight-bit codes of a gallery's embeddings in FAISS, a quarter of their memory.

    An inverted file (`faiss`) is built in about a minute a million rows; a graph (`faiss_hnsw`) takes many times that, and
    answers faster. Sources: Jeff Johnson, Matthijs Douze, Herve Jegou, "Billion-scale similarity search with GPUs", IEEE
    Transactions on Big Data 2019; Yury Malkov, Dmitry Yashunin, "Efficient and robust approximate nearest neighbor search
    using Hierarchical Navigable Small World graphs", TPAMI 2020.

    Args:
        kind: one of `KINDS`.
        rows: what to index.
        effort: lists that are looked into of an inverted file, or candidates that are kept on the way through a graph.

    Attributes:
        ids: (M,) of what was added, ascending; also of what has left the gallery since.

    Raises:
        ValueError: if FAISS is not installed.
    """

    def __init__(self, kind: str, rows: GalleryRows, effort: int | None = None) -> None:
        self.faiss = load_faiss(kind)
        self.kind, self.effort, self.learned_from = kind, effort or EFFORT[kind], len(rows)
        self.ids: Integers = np.empty(0, np.int64)
        lists = max(1, min(2 * int(len(rows) ** 0.5), len(rows) // 40))
        sample = min(len(rows), SAMPLE * lists)
        chosen = np.random.default_rng(0).choice(len(rows), sample, replace=False)
        codes = self.faiss.ScalarQuantizer.QT_8bit
        if kind == "faiss":
            # The index keeps no reference of Python to its quantizer, so this object does.
            self.centres = self.faiss.IndexFlatL2(rows.size)
            self.index = self.faiss.IndexIVFScalarQuantizer(self.centres, rows.size, lists, codes)
        else:
            self.index = self.faiss.IndexHNSWSQ(rows.size, codes, NEIGHBOURS)
        self.index.train(rows.at(np.sort(chosen)).cpu().numpy())
        self.add(rows)

    def add(self, rows: GalleryRows) -> None:
        """Take the rows that were added to the gallery since."""
        known = self.ids[-1] if len(self.ids) else -1
        for start, embedding, _ in rows.pieces():
            ids = rows.about["id"][start : start + len(embedding)]
            first = int(np.searchsorted(ids, known, side="right"))
            if first < len(ids):
                self.index.add(embedding[first:].cpu().numpy())
                self.ids = np.concatenate([self.ids, ids[first:]])

    def outdated(self, rows: GalleryRows) -> bool:
        """Whether to build it anew: most of it has left the gallery, or that has grown much."""
        return len(rows) > GROWTH * self.learned_from or 2 * len(rows) < len(self.ids)

    def search(self, query: Tensor, k: int, allowed: Integers) -> Integers:
        """Propose neighbours.

        Args:
            query: (Q, D).
            k: how many.
            allowed: (A,) ids that may be proposed, ascending.

        Returns:
            (Q, k) ids, -1 where there are fewer.
        """
        found = self.index.search(query.cpu().numpy(), k, params=self._parameters(allowed))[1]
        return np.where(found < 0, -1, self.ids[found])

    def _parameters(self, allowed: Integers) -> Any:
        chosen = None
        if len(allowed) < len(self.ids):
            inside = np.zeros(len(self.ids), np.bool_)
            inside[np.searchsorted(self.ids, allowed)] = True
            chosen = self.faiss.IDSelectorBitmap(np.packbits(inside, bitorder="little"))
        if self.kind == "faiss":
            return self.faiss.SearchParametersIVF(sel=chosen, nprobe=self.effort)
        return self.faiss.SearchParametersHNSW(sel=chosen, efSearch=self.effort)


def load_faiss(kind: str) -> Any:
    """The module.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ValueError(
            f"index={kind!r} needs FAISS, which is not installed ({error}): pip install reidlit[faiss], or index='exact'."
        ) from error
    return faiss
