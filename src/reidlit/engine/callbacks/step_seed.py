"""Randomness that a resumed run repeats."""

from typing import Any

import pytorch_lightning as pl
import torch


class StepSeed(pl.Callback):
    """Seeds torch by the run's seed, the epoch, the step in it and the rank, before each step.

    Dropout and the like then depend on the step alone, and a run that was killed at any moment goes on as the unbroken one
    would have; order and augmentation of the images have their own seeds.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed."""
        epoch = self.seed * 1_000_003 + trainer.current_epoch
        torch.manual_seed(((epoch * 1_000_003 + batch_idx) * 65_537 + trainer.global_rank) % 2**63)
