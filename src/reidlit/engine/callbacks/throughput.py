"""Callbacks that log the gradient norm and the throughput of training."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch import Tensor
from torch.optim import Optimizer

from reidlit.engine.callbacks.lightning_internals import is_logged, pending_scaler


class GradientNorm(pl.Callback):
    """Callback that logs the gradient norm as `train/grad_norm` at every step that the loggers record.

    The Euclidean norm of all gradients is computed over the complete batch of all devices, before clipping and without
    the loss scale of fp16 mixed precision. Steps that `NaNGuard` skips have no norm.
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Log the norm if the step is logged."""
        if not is_logged(trainer, trainer.global_step + 1):
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        sharded = isinstance(trainer.strategy, FSDPStrategy)  # each rank has a part of the gradients
        if not gradients and not sharded:
            return
        norm = torch.nn.utils.get_total_norm(gradients).to(trainer.strategy.root_device)
        if sharded:
            norm = trainer.strategy.reduce(norm.square(), reduce_op="sum").sqrt()
        scaler = pending_scaler(trainer, optimizer)
        if scaler is not None:
            norm = norm / scaler.get_scale()
        pl_module.log("train/grad_norm", norm)


class Throughput(pl.Callback):
    """Callback that logs the number of training images per second on all devices as `train/images_per_second`.

    It is measured between two recorded steps of an epoch. The first batch of an epoch, which waits for the workers, is
    excluded.

    Args:
        clock: Function that returns the time in seconds; None for `time.perf_counter`.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.perf_counter
        self._since: float | None = None
        self._images = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start measuring with the first batch."""
        self._since = None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Mapping[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Count the images, and log their rate if the step is logged."""
        now = self._clock()
        if self._since is None:
            self._since, self._images = now, 0
            return
        self._images += len(batch["index"]) * trainer.world_size
        if is_logged(trainer, trainer.global_step) and now > self._since:
            pl_module.log("train/images_per_second", self._images / (now - self._since), batch_size=len(batch["index"]))
            self._since, self._images = now, 0
