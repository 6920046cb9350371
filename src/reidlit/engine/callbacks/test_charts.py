"""What a test found, for the loggers that can show more than numbers."""

from typing import cast

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from reidlit.engine.base import AnyModule
from reidlit.engine.callbacks.ranked_lists import RankedLists
from reidlit.engine.loggers.charted_test import ChartedTest
from reidlit.engine.loggers.run_name import essentials
from reidlit.engine.loggers.tensorboard import show_in_tensorboard, show_settings
from reidlit.engine.loggers.wandb_charts import show_in_wandb
from reidlit.metrics import ReIDMetric


class TrackedResults(pl.Callback):
    """Gives W&B and TensorBoard the CMC and ROC curves, the camera pairs and the ranked lists of each test set.

    W&B gets charts and tables, and one with the images of the ranked lists; TensorBoard gets pictures, the camera pairs as
    text, and the settings beside the final scores. The lists are those that `RankedLists` has drawn; it must come before.

    Args:
        queries: how many lists of a test set at most; 0 gives no image of a person to W&B.

    Raises:
        ValueError: if it is negative.
    """

    def __init__(self, queries: int = 16) -> None:
        if queries < 0:
            raise ValueError(f"tracked_results.queries={queries} must be 0 or more.")
        self.queries = queries

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log, on the main process."""
        if not trainer.is_global_zero:
            return
        tested = self._tested(trainer, cast("AnyModule", pl_module))
        scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                show_in_wandb(logger, tested, trainer.global_step)
            if isinstance(logger, TensorBoardLogger):
                show_in_tensorboard(logger.experiment, tested, trainer.global_step)
                show_settings(logger.experiment, essentials(dict(logger.hparams)), scores)

    def _tested(self, trainer: pl.Trainer, module: AnyModule) -> list[ChartedTest]:
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by its callback connector
        artist = next((each for each in callbacks if isinstance(each, RankedLists)), None)
        drawn = {} if artist is None or not self.queries else artist.drawn
        return [
            ChartedTest(f"test/{name}", metric.compute(), drawn[name].first(self.queries) if name in drawn else None)
            for name, metric in module.metrics.items()
            if name is not None and isinstance(metric, ReIDMetric)
        ]
