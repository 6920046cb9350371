"""Trainer state that Lightning or torch offers only through undeclared attributes."""

from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.apply_func import convert_tensors_to_scalars
from pytorch_lightning.trainer.states import TrainerFn
from torch.optim import Optimizer


def pending_scaler(trainer: pl.Trainer, optimizer: Optimizer) -> Any:
    """Return the gradient scaler if the gradients of `optimizer` are still scaled before its step, else None.

    Mixed precision in fp16 scales the loss. Lightning unscales the gradients before the optimizer's step, except for a
    fused optimizer, which unscales them itself within its step.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler if getattr(optimizer, "_step_supports_amp_scaling", False) else None


def is_logged(trainer: pl.Trainer, step: int, first: bool = False) -> bool:
    """Return True if the loggers record an optimizer step.

    Args:
        trainer: Trainer, whose `log_every_n_steps` decides.
        step: Number of the step, from 1.
        first: Whether the first step counts as recorded if logging is enabled.
    """
    every = getattr(trainer, "log_every_n_steps", 0)
    return bool(every) and (step % every == 0 or (first and step == 1))


def pending_metrics(trainer: pl.Trainer) -> tuple[dict[str, float], int]:
    """Return the row that Lightning will log after the current hook, and its step; the row is empty if there is none.

    At the end of a batch and of an epoch, Lightning logs after the callbacks, and thus after their checkpoints.
    """
    loop = trainer.fit_loop.epoch_loop
    step = loop._batches_that_stepped
    batches: Any = loop.batch_progress.current
    epochs: Any = trainer.fit_loop.epoch_progress.current
    connector = trainer._logger_connector
    if trainer.state.fn != TrainerFn.FITTING or trainer.validating or trainer._results is None:
        return {}, step
    if epochs.completed == epochs.processed - 1 and connector._first_loop_iter is None:
        step -= 1
    elif (
        batches.completed != batches.processed - 1
        or loop._should_accumulate()
        or not connector.should_update_logs
        or connector._first_loop_iter is None
    ):
        return {}, step
    metrics = convert_tensors_to_scalars(connector.metrics["log"])
    if not metrics:
        return {}, step
    step = int(metrics.pop("step", step))
    return {**metrics, "epoch": metrics.get("epoch", trainer.current_epoch)}, step
