"""Progress bar with loss, accuracy, images per second and remaining time."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar


class Progress(RichProgressBar):
    """Lightning's rich progress bar, with images per second and the remaining time of the run.

    Args:
        refresh_rate: Number of batches between two updates of the bar.
    """

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._since = 0.0
        self._images = 0
        self._steps = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restart the measurement, because compilation and cold caches may slow down the first epoch."""
        super().on_train_epoch_start(trainer, pl_module)
        self._since, self._images, self._steps = time.perf_counter(), 0, 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images of the batch on all devices."""
        self._images += len(batch["index"]) * trainer.world_size
        self._steps += 1
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return Lightning's metrics without the version number, with `img/s` and the time `left`."""
        logged = super().get_metrics(trainer, pl_module).items()
        metrics = {name.removeprefix("train/"): value for name, value in logged if name != "v_num"}
        elapsed = time.perf_counter() - self._since
        if self._steps and trainer.training:
            metrics["img/s"] = f"{self._images / elapsed:.0f}"
            total = trainer.estimated_stepping_batches
            left = max(0, int((total - trainer.global_step) * trainer.accumulate_grad_batches * elapsed / self._steps))
            metrics["left"] = f"{left // 3600}:{left % 3600 // 60:02}:{left % 60:02}"
        return metrics
