"""Seeding of every training step, for reproducible resumed runs."""

from typing import Any

import pytorch_lightning as pl
import torch


class StepSeed(pl.Callback):
    """Callback that seeds torch before each batch from the run's seed, the epoch, the batch and the rank.

    The random numbers of dropout and similar layers then depend only on the batch, so a resumed run is identical to an
    uninterrupted one. The order and augmentation of images have their own seeds.

    Args:
        seed: Random seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch."""
        epoch = self.seed * 1_000_003 + trainer.current_epoch
        torch.manual_seed(((epoch * 1_000_003 + batch_idx) * 65_537 + trainer.global_rank) % 2**63)
