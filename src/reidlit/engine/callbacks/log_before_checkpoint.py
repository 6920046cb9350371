"""Rows of the log on disk before the checkpoint after which training continues."""

from typing import Any

import pytorch_lightning as pl

from reidlit.engine.callbacks.lightning_internals import pending_metrics
from reidlit.engine.loggers.csv_log import CSVLog


class LogBeforeCheckpoint(pl.Callback):
    """Callback that completes the CSV log before each checkpoint, so that a killed and resumed run has every row."""

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the row that Lightning logs after the checkpoint."""
        logs = [logger for logger in trainer.loggers if isinstance(logger, CSVLog)]
        if logs:
            metrics, step = pending_metrics(trainer)
            for log in logs:
                log.log_early(metrics, step)
