"""Ranked lists drawn after a test."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.nn import functional

from reidlit.data.datamodule import ReIDDataModule
from reidlit.data.decode import decode
from reidlit.data.images import Read
from reidlit.data.sample import Sample, first_frame, readable
from reidlit.engine.base import AnyModule
from reidlit.metrics import ReIDMetric, Scores
from reidlit.metrics.nearest import nearest
from reidlit.tables import write_table
from reidlit.visualize.faces import blurring
from reidlit.visualize.ranked_list import ListedImage, RankedList, draw_ranked_lists

CHOICES = ("random", "worst", "best", "all")
SHEET = 100  # rows; a longer picture opens nowhere


class Drawn(NamedTuple):
    """The lists of a test set that were drawn.

    Attributes:
        title: over the picture.
        lists: (R,) in the order in which they are drawn.
        ap: (R,) average precision of each query, NaN without a match.
        first_match: (R,) rank of each query's first match, 0 without a match.
        read: path -> (H, W, 3) uint8 RGB, of their images.
    """

    title: str
    lists: Sequence[RankedList]
    ap: NDArray[np.float64]
    first_match: NDArray[np.int64]
    read: Read

    def first(self, number: int) -> "Drawn":
        """The first lists only."""
        few = slice(number)
        return self._replace(lists=self.lists[few], ap=self.ap[few], first_match=self.first_match[few])


class RankedLists(pl.Callback):
    """Draws, for each test set, some queries with the gallery images nearest to them, and writes the lists as a table.

    They stay in `drawn`, by test set, for callbacks that come later.

    Args:
        folder: where `<dataset>.png` and `<dataset>.csv` go, and with `each` a folder `<dataset>`.
        queries: how many; 0 draws none.
        top_k: how many gallery images each, no more than eval.top_k.
        choose: `random` with a fixed seed, `worst` and `best` by AP, `all`, or a list of file names or of numbers from 0.
        each: whether to draw a picture for each query too.
        junk: whether to show what the protocol leaves out, marked as junk: images of the query's identity from its own
            camera. Not after post-processing, which knows no distances to them.
        blur_faces: whether to make heads unrecognisable.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        folder: str,
        queries: int = 8,
        top_k: int = 10,
        choose: Literal["random", "worst", "best", "all"] | Sequence[str | int] = "random",
        each: bool = False,
        junk: bool = False,
        blur_faces: bool = False,
    ) -> None:
        if queries < 0 or top_k < 1:
            raise ValueError(f"ranked_lists.queries={queries} must be 0 or more, ranked_lists.top_k={top_k} 1 or more.")
        if isinstance(choose, str) and choose not in CHOICES:
            raise ValueError(f"ranked_lists.choose={choose} must be one of {', '.join(CHOICES)}, or a list of queries.")
        self.folder = Path(folder)
        self.queries, self.top_k, self.choose, self.each, self.junk = queries, top_k, choose, each, junk
        self.read = blurring(decode) if blur_faces else decode
        self.drawn: dict[str, Drawn] = {}

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, on the main process."""
        self.drawn = {}
        if not self.queries or not trainer.is_global_zero:
            return
        module, datamodule = (
            cast("AnyModule", pl_module),
            cast("ReIDDataModule", getattr(trainer, "datamodule", None)),
        )
        for name, sets in datamodule.test_sets.items():
            metric = module.metrics[name]
            if not isinstance(metric, ReIDMetric):
                continue  # nothing was searched for
            scores: Scores = metric.compute()
            samples = [*sets.query, *sets.gallery]
            if scores.nearest is None or scores.num_queries != len(metric.collected[0].index):
                continue  # no lists were asked for, or the queries are no images
            rows = self._chosen(scores, metric, samples)
            lists = self._lists(rows, scores, metric, samples)
            title = _title(name, scores)
            self._write(name, title, rows, lists)
            self.drawn[name] = Drawn(title, lists, scores.ap[rows], scores.first_match[rows], self.read)

    def _chosen(self, scores: Scores, metric: ReIDMetric, samples: Sequence[Sample]) -> list[int]:
        """The numbers of the queries, in the order in which they are drawn."""
        if not isinstance(self.choose, str):
            return [_row(asked, metric, samples) for asked in self.choose]
        if self.choose == "all":
            return list(range(scores.num_queries))
        if self.choose == "random":
            return sorted(np.random.default_rng(0).permutation(scores.num_queries)[: self.queries].tolist())
        order = scores.ap.argsort(kind="stable")  # those without a match, which are NaN, come last
        order = order[: int(np.isfinite(scores.ap).sum())]
        return [int(row) for row in (order if self.choose == "worst" else order[::-1])[: self.queries]]

    def _lists(
        self, rows: Sequence[int], scores: Scores, metric: ReIDMetric, samples: Sequence[Sample]
    ) -> list[RankedList]:
        """The lists of some queries."""
        query, gallery = metric.collected
        indices, distances = self._nearest(rows, scores, metric)
        is_root = metric.options.get("metric", "euclidean") == "euclidean" and not metric.options.get("postprocess")
        lists = []
        for row, listed, far in zip(rows, indices, distances, strict=True):
            asked = samples[int(query.index[row])]
            entries = []
            for index, distance in zip(listed.tolist(), far.tolist(), strict=True):
                if index < 0:
                    break
                found = samples[int(gallery.index[index])]
                # The square is enough for a ranking, but not for a reader.
                shown = math.sqrt(max(distance, 0)) if is_root else distance
                same = found.pid == asked.pid
                own_camera = same and found.camid == asked.camid and found.camid >= 0
                entries.append(_shown(found, shown, same, self.junk and own_camera))
            lists.append(RankedList(_shown(asked), entries))
        return lists

    def _nearest(
        self, rows: Sequence[int], scores: Scores, metric: ReIDMetric
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions in the gallery and distances (R, k); without what the protocol leaves out, unless that is asked for."""
        if not self.junk or metric.options.get("postprocess"):
            if scores.nearest is None:
                raise ValueError("eval.top_k=0 keeps no ranked lists.")
            return scores.nearest.indices[rows, : self.top_k], scores.nearest.distance[rows, : self.top_k]
        query, gallery = (part.embedding for part in metric.collected)
        query = query[torch.tensor(rows, dtype=torch.long, device=query.device)]
        if metric.options.get("normalize"):
            query, gallery = functional.normalize(query), functional.normalize(gallery)
        found = nearest(query, gallery, self.top_k, metric.options.get("metric", "euclidean"))
        return found.indices, found.distance

    def _write(self, name: str, title: str, rows: Sequence[int], lists: Sequence[RankedList]) -> None:
        if not lists:
            return
        draw_ranked_lists(lists[:SHEET], self.folder / f"{name}.png", title, self.read)
        if self.each:
            for row, ranked in zip(rows, lists, strict=True):
                stem = Path(ranked.query.path).stem
                draw_ranked_lists([ranked], self.folder / name / f"{row:05d}_{stem}.png", title, self.read)
        write_table(self.folder / f"{name}.csv", _columns(lists))


def _title(name: str, scores: Scores) -> str:
    return f"{name}: mAP {100 * scores.mAP:.1f}, rank-1 {100 * scores.rank(1):.1f}"


def _row(asked: str | int, metric: ReIDMetric, samples: Sequence[Sample]) -> int:
    """The number of a query that is named by its file or its number.

    Raises:
        ValueError: if there is no such query, or several have the name.
    """
    index = metric.collected[0].index.tolist()
    if isinstance(asked, int):
        if not 0 <= asked < len(index):
            raise ValueError(f"ranked_lists.choose has {asked}, but queries are numbered from 0 to {len(index) - 1}.")
        return asked
    paths = [Path(first_frame(samples[number].path)) for number in index]
    found = [row for row, path in enumerate(paths) if asked in (str(path), path.name)]
    if len(found) != 1:
        raise ValueError(
            f"ranked_lists.choose has {asked!r}, which {len(found)} queries are called; give a whole path."
        )
    return found[0]


def _shown(sample: Sample, distance: float | None = None, match: bool | None = None, junk: bool = False) -> ListedImage:
    frames = () if isinstance(sample.path, str) else sample.path
    return ListedImage(first_frame(sample.path), sample.pid, sample.camid, distance, match, junk, frames)


def _columns(lists: Sequence[RankedList]) -> dict[str, NDArray[np.generic]]:
    """A row for each query and rank."""
    rows = [(ranked.query, rank, entry) for ranked in lists for rank, entry in enumerate(ranked.entries, start=1)]
    return {
        "query": np.array([readable(query.path) for query, _, _ in rows], np.str_),
        "query_pid": np.array([query.pid for query, _, _ in rows], np.int64),
        "query_camid": np.array([query.camid for query, _, _ in rows], np.int64),
        "rank": np.array([rank for _, rank, _ in rows], np.int64),
        "path": np.array([readable(entry.path) for _, _, entry in rows], np.str_),
        "pid": np.array([entry.pid for _, _, entry in rows], np.int64),
        "camid": np.array([entry.camid for _, _, entry in rows], np.int64),
        "distance": np.array([entry.distance for _, _, entry in rows], np.float64),
        "verdict": np.array([entry.verdict for _, _, entry in rows], np.str_),
    }
