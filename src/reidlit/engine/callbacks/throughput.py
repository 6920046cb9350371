"""How training goes, step by step: the size of the gradient and the rate of images."""

import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch import Tensor
from torch.optim import Optimizer


class GradientNorm(pl.Callback):
    """Logs the Euclidean norm of all gradients together as `train/grad_norm`, whenever the loggers look.

    It is that of the whole batch on all devices, before clipping. With mixed precision in fp16 it is that of the unscaled
    gradients; those of an optimiser that unscales by itself (fused) are divided by the scale here. A step that LossWatch
    leaves out has none.
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Look, if it is time."""
        if not _is_time(trainer, trainer.global_step + 1):
            return
        each = (parameter for group in optimizer.param_groups for parameter in group["params"])
        gradients = [parameter.grad for parameter in each if parameter.grad is not None]
        divided = isinstance(trainer.strategy, FSDPStrategy)  # then each rank holds a part
        if not gradients and not divided:
            return
        norm = torch.nn.utils.get_total_norm(gradients).to(trainer.strategy.root_device)
        if divided:
            norm = trainer.strategy.reduce(norm.square(), reduce_op="sum").sqrt()
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            norm = norm / scaler.get_scale()
        pl_module.log("train/grad_norm", norm)


class ImageRate(pl.Callback):
    """Logs the images that were trained on in a second, on all devices, as `train/images_per_second`.

    From one look of the loggers to the next within an epoch, without its first batch, which waits for the workers.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._images = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the first batch."""
        self._since = None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Mapping[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Count, and log if it is time."""
        now = time.perf_counter()
        if self._since is None:
            self._since, self._images = now, 0
            return
        self._images += len(batch["index"]) * trainer.world_size
        if _is_time(trainer, trainer.global_step) and now > self._since:
            pl_module.log("train/images_per_second", self._images / (now - self._since), batch_size=len(batch["index"]))
            self._since, self._images = now, 0


def _is_time(trainer: pl.Trainer, step: int) -> bool:
    """Whether the loggers look at a step of the optimiser, counted from 1."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by its logger connector
    return bool(every) and step % every == 0
