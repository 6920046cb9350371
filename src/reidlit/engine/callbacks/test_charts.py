"""Logging of test results as charts and images."""

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
    """Callback that logs the results of each test set to W&B and TensorBoard.

    It logs CMC and ROC curves, camera pairs and ranked lists. W&B receives charts and tables, with the images of the
    ranked lists in a table. TensorBoard receives images, the camera pairs as text, and the settings with the final
    scores. The ranked lists are those that the callback `RankedLists` has drawn, so it must precede this one.

    Args:
        queries: Maximum number of ranked lists per test set; 0 to log no images of people.

    Raises:
        ValueError: If queries is negative.
    """

    def __init__(self, queries: int = 16) -> None:
        if queries < 0:
            raise ValueError(f"tracked_results.queries={queries} is invalid: must be at least 0.")
        self.queries = queries

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the results on the main process."""
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
        ranked_lists = next((callback for callback in callbacks if isinstance(callback, RankedLists)), None)
        drawn = {} if ranked_lists is None or not self.queries else ranked_lists.drawn
        return [
            ChartedTest(f"test/{name}", metric.compute(), drawn[name].first(self.queries) if name in drawn else None)
            for name, metric in module.metrics.items()
            if name is not None and isinstance(metric, ReIDMetric)
        ]
