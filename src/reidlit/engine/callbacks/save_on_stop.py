"""A checkpoint of the moment in which a run is told to stop."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import SIGTERMException


class SaveOnStop(pl.Callback):
    """Saves when a run gets SIGTERM, which schedulers send before they kill.

    Lightning ends the step that it is in first. A step that needs more batches could not be gone on with from its middle;
    then the checkpoint before stays.

    Args:
        path: of the checkpoint, the same as that of the last epoch.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.between_steps = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Whether a step has ended."""
        last = batch_idx + 1 == trainer.num_training_batches
        self.between_steps = last or (batch_idx + 1) % trainer.accumulate_grad_batches == 0

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save, where training was told to stop."""
        if isinstance(exception, SIGTERMException) and self.between_steps and trainer.training:
            trainer.save_checkpoint(self.path)
