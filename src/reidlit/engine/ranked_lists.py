"""Ranked lists drawn after a test."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytorch_lightning as pl
import torch

from reidlit.data.datamodule import ReIDDataModule
from reidlit.data.sample import Sample
from reidlit.engine.module import ReIDModule
from reidlit.metrics import ReIDMetric
from reidlit.metrics.top_k import top_k
from reidlit.visualize.ranked_list import RankedList, Shown, draw_ranked_lists


class RankedLists(pl.Callback):
    """Draws, for each test set, some queries with the gallery images nearest to them.

    Args:
        folder: where `<dataset>.png` goes.
        queries: how many, drawn at random with a fixed seed; 0 draws none.
        top_k: how many gallery images each.

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
            lists = self._lists(module.metrics[name], [*sets.query, *sets.gallery])
            draw_ranked_lists(lists, self.folder / f"{name}.png", title)

    def _lists(self, metric: ReIDMetric, samples: Sequence[Sample]) -> list[RankedList]:
        """The lists of some queries, without what the protocol leaves out."""
        query, gallery = metric.collected
        rows = torch.from_numpy(np.sort(np.random.default_rng(0).permutation(len(query.index))[: self.queries]))
        same = query.pid[rows, None] == gallery.pid[None]
        junk = same & (query.camid[rows, None] == gallery.camid[None])
        embedding = query.embedding[rows.to(query.embedding.device)]
        distance, index = top_k(embedding, gallery.embedding, self.top_k, junk, metric.metric, metric.normalize)
        return [
            RankedList(
                _shown(samples[asked]),
                [
                    _shown(samples[position], far, samples[position].pid == samples[asked].pid)
                    for far, position in zip(distances, positions, strict=True)
                    if far != math.inf
                ],
            )
            for asked, distances, positions in zip(
                query.index[rows].tolist(), distance.tolist(), gallery.index[index].tolist(), strict=True
            )
        ]


def _shown(sample: Sample, distance: float | None = None, match: bool | None = None) -> Shown:
    return Shown(str(sample.path), sample.pid, sample.camid, distance, match)
