"""Ranked lists drawn after a test."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytorch_lightning as pl

from reidlit.data.datamodule import ReIDDataModule
from reidlit.data.sample import Sample
from reidlit.engine.module import ReIDModule
from reidlit.metrics import ReIDMetric, Scores
from reidlit.visualize.ranked_list import RankedList, Shown, draw_ranked_lists


class RankedLists(pl.Callback):
    """Draws, for each test set, some queries with the gallery images nearest to them.

    Args:
        folder: where `<dataset>.png` goes.
        queries: how many, drawn at random with a fixed seed; 0 draws none.
        top_k: how many gallery images each, no more than eval.top_k.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(self, folder: str, queries: int = 8, top_k: int = 10) -> None:
        if queries < 0 or top_k < 1:
            raise ValueError(f"ranked_lists.queries={queries} must be 0 or more, ranked_lists.top_k={top_k} 1 or more.")
        self.folder = Path(folder)
        self.queries = queries
        self.top_k = top_k

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, on the main process."""
        if not self.queries or not trainer.is_global_zero:
            return
        module, datamodule = cast("ReIDModule", pl_module), cast("ReIDDataModule", getattr(trainer, "datamodule", None))
        for name, sets in datamodule.test_sets.items():
            scores = module.scores[f"test/{name}"]
            title = f"{name}: mAP {100 * scores.mAP:.1f}, rank-1 {100 * scores.rank(1):.1f}"
            lists = self._lists(scores, module.metrics[name], [*sets.query, *sets.gallery])
            if not lists:  # no ranked lists were asked for, or the queries are no images
                continue
            draw_ranked_lists(lists, self.folder / f"{name}.png", title)

    def _lists(self, scores: Scores, metric: ReIDMetric, samples: Sequence[Sample]) -> list[RankedList]:
        """The lists of some queries, without what the protocol leaves out."""
        query, gallery = metric.collected
        if scores.nearest is None or scores.num_queries != len(query.index):
            return []
        is_root = metric.options.get("metric", "euclidean") == "euclidean" and not metric.options.get("postprocess")
        lists = []
        for row in np.sort(np.random.default_rng(0).permutation(scores.num_queries)[: self.queries]):
            asked = samples[int(query.index[row])]
            listed = zip(scores.nearest.distance[row, : self.top_k], scores.nearest.indices[row], strict=False)
            entries = []
            for distance, index in listed:
                if index < 0:
                    break
                found = samples[int(gallery.index[index])]
                # The square is enough for a ranking, but not for a reader.
                far = math.sqrt(max(distance, 0)) if is_root else float(distance)
                entries.append(_shown(found, far, found.pid == asked.pid))
            lists.append(RankedList(_shown(asked), entries))
        return lists


def _shown(sample: Sample, distance: float | None = None, match: bool | None = None) -> Shown:
    return Shown(str(sample.path), sample.pid, sample.camid, distance, match)
