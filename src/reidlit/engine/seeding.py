"""Randomness that a resumed run repeats."""

import pytorch_lightning as pl
import torch


class EpochSeed(pl.Callback):
    """Seeds torch by the run's seed, the epoch and the rank at the start of each epoch.

    Dropout and the like then depend on the epoch alone, and a run that was killed and resumed goes on as the unbroken one
    would have; order and augmentation of the images have their own seeds.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed."""
        torch.manual_seed((self.seed * 1_000_003 + trainer.current_epoch) * 65_537 + trainer.global_rank)
