"""Ranked lists drawn after a test."""

from pathlib import Path
from typing import cast

import numpy as np
import pytorch_lightning as pl
import torch

from reidlit.data.datamodule import ReIDDataModule
from reidlit.engine.module import ReIDModule
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

    def on_test_end(self, trainer: pl.Trainer, pl_module: ReIDModule) -> None:  # type: ignore[override]
        """Draw, on the main process."""
        if not self.queries or not trainer.is_global_zero:
            return
        datamodule = cast("ReIDDataModule", trainer.datamodule)  # type: ignore[attr-defined]
        for name, sets in datamodule.test_sets.items():
            metric = pl_module.metrics[name]
            query, gallery = metric.collected
            chosen = np.sort(np.random.default_rng(0).permutation(len(query.index))[: self.queries])
            rows = torch.from_numpy(chosen)
            same = query.pid[rows, None] == gallery.pid[None]
            junk = same & (query.camid[rows, None] == gallery.camid[None])
            distance, index = top_k(
                query.embedding[rows], gallery.embedding, self.top_k, junk, metric.metric, metric.normalize
            )
            samples = [*sets.query, *sets.gallery]
            lists = []
            for row, distances, entries in zip(chosen, distance.tolist(), index.tolist(), strict=True):
                asked = samples[query.index[row]]
                answers = [
                    Shown(
                        str(samples[position].path),
                        samples[position].pid,
                        samples[position].camid,
                        far,
                        asked.pid == samples[position].pid,
                    )
                    for far, position in zip(distances, gallery.index[entries].tolist(), strict=True)
                    if far != float("inf")
                ]
                lists.append(RankedList(Shown(str(asked.path), asked.pid, asked.camid), answers))
            scores = pl_module.scores[f"test/{name}"]
            title = f"{name}: mAP {100 * scores.mAP:.1f}, rank-1 {100 * scores.rank(1):.1f}"
            draw_ranked_lists(lists, self.folder / f"{name}.png", title)
