"""Averages of the weights over the training, which validation, tests and checkpoints use instead of the last weights."""

import math
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from reidlit.data.sample import Batch
from reidlit.engine.reid import ReIDModule

Share = Callable[[Tensor | int], float]


class _Averaging(WeightAveraging):
    """Lightning's averaging, mended in three points.

    Until the average begins it is the current model; Lightning's is the untrained one, also at the end of a run that ends
    before. Integers, such as counts of batches, are copied, not averaged. The average lies on the device of the model.

    Args:
        share: of the current weights in the average, by how many went into it before.
    """

    _average_model: AveragedModel | None

    def __init__(self, share: Share) -> None:
        super().__init__(use_buffers=True, multi_avg_fn=_towards(share))

    @property
    def average(self) -> AveragedModel:
        """There from the start of a fit."""
        if self._average_model is None:
            raise RuntimeError("Weights are averaged in training only.")
        return self._average_model

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Copy the model, which is not on its device yet."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in the place of the current weights."""
        self._follow(pl_module)
        super().on_validation_epoch_start(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the average as the weights, and the current weights beside it for resuming."""
        self._follow(pl_module)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the model."""
        self._follow(pl_module)
        super().on_train_end(trainer, pl_module)

    def _follow(self, pl_module: pl.LightningModule) -> None:
        if self._average_model is not None and self._average_model.n_averaged == 0:
            self._average_model.module.load_state_dict(pl_module.state_dict())


class EMA(_Averaging):
    """Exponential moving average of the weights.

    Source: Polyak, Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM Journal on Control and
    Optimization 1992; with exponential weights as in Tarvainen, Valpola, "Mean Teachers are Better Role Models", NeurIPS
    2017. Batch-norm statistics are averaged like weights. The first update copies.

    Args:
        decay: what is kept of the average at an update. It looks back over about 1 / (1 - decay) updates, so a run should be
            several times as long.
        every_n_steps: of the optimiser, from one update to the next.
        start_step: of the optimiser, after which the average begins.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(self, decay: float = 0.999, every_n_steps: int = 1, start_step: int = 0) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema.decay={decay} must be 0 or more and below 1.")
        if every_n_steps < 1 or start_step < 0:
            raise ValueError(
                f"ema.every_n_steps={every_n_steps} must be 1 or more, ema.start_step={start_step} 0 or more."
            )
        self.every_n_steps = every_n_steps
        self.start_step = start_step
        super().__init__(lambda _: 1 - decay)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After which steps, counted from zero."""
        since = -1 if step_idx is None else step_idx - self.start_step
        return since >= 0 and since % self.every_n_steps == 0


class SWA(_Averaging):
    """Stochastic weight averaging: the mean of the weights at the ends of the last epochs.

    Source: Izmailov, Podoprikhin, Garipov, Vetrov, Wilson, "Averaging Weights Leads to Wider Optima and Better
    Generalization", UAI 2018. The learning rate is the schedule's, and should stay high to the end. After the last epoch
    the batch-norm statistics of the averaged model are computed anew, in one pass over the training batches; those of
    checkpoints and validations before that are the mean of the epochs' statistics.

    Args:
        start: share of the epochs after which the average begins.

    Raises:
        ValueError: if the share is out of range, or in training, if there is no last epoch.
    """

    def __init__(self, start: float = 0.75) -> None:
        if not 0 <= start < 1:
            raise ValueError(f"swa.start={start} must be 0 or more and below 1.")
        self.start = start
        self._start_epoch = 0
        super().__init__(lambda count: 1 / (float(count) + 1))

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Work out the first epoch of the average."""
        if stage == "fit":
            if trainer.max_epochs is None or trainer.max_epochs < 0:
                raise ValueError(
                    f"trainer.max_epochs={trainer.max_epochs}: swa.start={self.start} is a share of them, so set a number."
                )
            self._start_epoch = int(trainer.max_epochs * self.start)
        super().setup(trainer, pl_module, stage)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After which epochs, counted from zero."""
        return epoch_idx is not None and epoch_idx >= self._start_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Average, and after the last epoch compute the batch-norm statistics, before checkpoints are written."""
        super().on_train_epoch_end(trainer, pl_module)
        if _ends(trainer) and self.average.n_averaged > 0:
            self._compute_statistics(trainer)

    def _compute_statistics(self, trainer: pl.Trainer) -> None:
        strategy, count = trainer.strategy, trainer.num_training_batches
        for model in cast("ReIDModule", self.average.module).networks:
            batches: Iterable[Batch] = trainer.train_dataloader or ()
            if math.isfinite(count):
                batches = islice(batches, int(count))
            with trainer.precision_plugin.forward_context():
                update_bn((strategy.batch_to_device(batch) for batch in batches), _OfBatch(model))
            for name, buffer in model.named_buffers():
                if name.endswith(("running_mean", "running_var")):  # each rank has seen its own batches
                    buffer.copy_(strategy.reduce(buffer, reduce_op="mean"))


def _ends(trainer: pl.Trainer) -> bool:
    """Whether the training ends with this epoch."""
    epochs = trainer.max_epochs is not None and trainer.current_epoch + 1 >= trainer.max_epochs
    steps = 0 <= trainer.max_steps <= trainer.global_step
    return epochs or steps or trainer.should_stop


class _OfBatch(nn.Module):
    """A model as a function of a batch."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> object:
        return self.model(batch["image"], batch["camid"], batch.get("frames"))


def _towards(share: Share) -> Callable[[Any, Any, Tensor | int], None]:
    """Moves tensors of one kind, averaged ones, by a share towards the current ones."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, share(count))
        else:
            torch._foreach_copy_(averaged, current)

    return update
