"""Drawing of ranked lists after a test."""

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
MAX_ROWS = 100  # image viewers fail to open longer pictures


class DrawnLists(NamedTuple):
    """Ranked lists of a test set that were drawn.

    Attributes:
        title: Title of the picture.
        lists: (R,) ranked lists in drawing order.
        ap: (R,) average precision of each query, NaN without a match.
        first_match: (R,) rank of the first match of each query, 0 without a match.
        read: Function from a path to an image (H, W, 3) uint8 RGB.
    """

    title: str
    lists: Sequence[RankedList]
    ap: NDArray[np.float64]
    first_match: NDArray[np.int64]
    read: Read

    def first(self, number: int) -> "DrawnLists":
        """Return only the first lists."""
        first = slice(number)
        return self._replace(lists=self.lists[first], ap=self.ap[first], first_match=self.first_match[first])


class RankedLists(pl.Callback):
    """Callback that draws ranked lists of some queries of each test set, and writes them as a table.

    The attribute `drawn` contains the lists by test set, for callbacks that run later.

    Args:
        folder: Output folder for `<dataset>.png` and `<dataset>.csv`, and with `each` for the folder `<dataset>`.
        queries: Number of queries; 0 to draw nothing.
        top_k: Number of gallery images per query, at most `eval.top_k`.
        choose: Selection of queries: "random" with a fixed seed, "worst" or "best" by AP, "all", or a list of file
            names or of query numbers, counted from 0.
        each: Whether to also draw a picture for each query.
        junk: Whether to show junk images, which the protocol ignores: images of the query's identity from the query's
            camera. It has no effect after post-processing, which does not return their distances.
        blur_faces: Whether to make heads unrecognizable.

    Raises:
        ValueError: If an argument is out of range; after a test, if `choose` contains an unknown query.
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
            raise ValueError(
                f"ranked_lists.queries={queries} must be at least 0, and ranked_lists.top_k={top_k} at least 1."
            )
        if isinstance(choose, str) and choose not in CHOICES:
            raise ValueError(
                f"ranked_lists.choose={choose} is invalid: must be one of {', '.join(CHOICES)}, or a list of queries."
            )
        self.folder = Path(folder)
        self.queries, self.top_k, self.choose, self.each, self.junk = queries, top_k, choose, each, junk
        self.read = blurring(decode) if blur_faces else decode
        self.drawn: dict[str, DrawnLists] = {}

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the lists on the main process."""
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
                continue  # not a retrieval test
            scores: Scores = metric.compute()
            samples = [*sets.query, *sets.gallery]
            if scores.nearest is None or scores.num_queries != len(metric.collected[0].index):
                continue  # eval.top_k=0, or the queries are not images
            rows = self._select_queries(scores, metric, samples)
            lists = self._lists(rows, scores, metric, samples)
            title = _title(name, scores)
            self._write(name, title, rows, lists)
            self.drawn[name] = DrawnLists(title, lists, scores.ap[rows], scores.first_match[rows], self.read)

    def _select_queries(self, scores: Scores, metric: ReIDMetric, samples: Sequence[Sample]) -> list[int]:
        """Return the query numbers in drawing order."""
        if not isinstance(self.choose, str):
            return [_find_query(query, metric, samples) for query in self.choose]
        if self.choose == "all":
            return list(range(scores.num_queries))
        if self.choose == "random":
            return sorted(np.random.default_rng(0).permutation(scores.num_queries)[: self.queries].tolist())
        order = scores.ap.argsort(kind="stable")  # queries without a match, with AP NaN, come last
        order = order[: int(np.isfinite(scores.ap).sum())]
        return [int(row) for row in (order if self.choose == "worst" else order[::-1])[: self.queries]]

    def _lists(
        self, rows: Sequence[int], scores: Scores, metric: ReIDMetric, samples: Sequence[Sample]
    ) -> list[RankedList]:
        """Return the ranked lists of some queries."""
        query, gallery = metric.collected
        all_indices, all_distances = self._nearest(rows, scores, metric)
        is_squared = metric.options.get("metric", "euclidean") == "euclidean" and not metric.options.get("postprocess")
        lists = []
        for row, indices, distances in zip(rows, all_indices, all_distances, strict=True):
            query_sample = samples[int(query.index[row])]
            entries = []
            for index, distance in zip(indices.tolist(), distances.tolist(), strict=True):
                if index < 0:
                    break
                sample = samples[int(gallery.index[index])]
                # Squared distances are sufficient for ranking, but people expect distances.
                shown_distance = math.sqrt(max(distance, 0)) if is_squared else distance
                match = sample.pid == query_sample.pid
                is_junk = match and sample.camid == query_sample.camid and sample.camid >= 0
                entries.append(_listed_image(sample, shown_distance, match, self.junk and is_junk))
            lists.append(RankedList(_listed_image(query_sample), entries))
        return lists

    def _nearest(
        self, rows: Sequence[int], scores: Scores, metric: ReIDMetric
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the (R, k) gallery indices and distances of some queries, without junk images unless `junk` is set."""
        if not self.junk or metric.options.get("postprocess"):
            if scores.nearest is None:
                raise ValueError("eval.top_k=0 is invalid: ranked lists need at least 1.")
            return scores.nearest.indices[rows, : self.top_k], scores.nearest.distance[rows, : self.top_k]
        query, gallery = (collected.embedding for collected in metric.collected)
        query = query[torch.tensor(rows, dtype=torch.long, device=query.device)]
        if metric.options.get("normalize"):
            query, gallery = functional.normalize(query), functional.normalize(gallery)
        result = nearest(query, gallery, self.top_k, metric.options.get("metric", "euclidean"))
        return result.indices, result.distance

    def _write(self, name: str, title: str, rows: Sequence[int], lists: Sequence[RankedList]) -> None:
        if not lists:
            return
        draw_ranked_lists(lists[:MAX_ROWS], self.folder / f"{name}.png", title, self.read)
        if self.each:
            for row, ranked in zip(rows, lists, strict=True):
                stem = Path(ranked.query.path).stem
                draw_ranked_lists([ranked], self.folder / name / f"{row:05d}_{stem}.png", title, self.read)
        write_table(self.folder / f"{name}.csv", _columns(lists))


def _title(name: str, scores: Scores) -> str:
    return f"{name}: mAP {100 * scores.mAP:.1f}, rank-1 {100 * scores.rank(1):.1f}"


def _find_query(query: str | int, metric: ReIDMetric, samples: Sequence[Sample]) -> int:
    """Return the number of a query, given its number, path or file name.

    Raises:
        ValueError: If the query does not exist, or several queries have the file name.
    """
    index = metric.collected[0].index.tolist()
    if isinstance(query, int):
        if not 0 <= query < len(index):
            raise ValueError(
                f"ranked_lists.choose={query} is invalid: queries are numbered from 0 to {len(index) - 1}."
            )
        return query
    paths = [Path(first_frame(samples[number].path)) for number in index]
    rows = [row for row, path in enumerate(paths) if query in (str(path), path.name)]
    if len(rows) != 1:
        raise ValueError(f"ranked_lists.choose={query!r} matches {len(rows)} queries: must match one. Use a full path.")
    return rows[0]


def _listed_image(
    sample: Sample, distance: float | None = None, match: bool | None = None, junk: bool = False
) -> ListedImage:
    frames = () if isinstance(sample.path, str) else sample.path
    return ListedImage(first_frame(sample.path), sample.pid, sample.camid, distance, match, junk, frames)


def _columns(lists: Sequence[RankedList]) -> dict[str, NDArray[np.generic]]:
    """Return table columns with a row for each query and rank."""
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
