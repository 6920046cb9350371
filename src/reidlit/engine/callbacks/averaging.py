"""Averages of the weights over training, which validation, tests and checkpoints use instead of the latest weights."""

import math
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn, update_bn

from reidlit.data.sample import Batch
from reidlit.engine.reid import ReIDModule

Update = Callable[[Any, Any, Tensor | int], None]
ema_update: Callable[[float], Update] = get_ema_multi_avg_fn  # typed names: torch declares no types here
swa_update: Callable[[], Update] = get_swa_multi_avg_fn


class _Averaging(WeightAveraging):
    """Lightning's `WeightAveraging` with three fixes.

    - The average is created on the device of the model. Lightning copies the model before it is moved there.
    - Integer buffers, such as counts of batches, are copied. Torch would truncate their averages or raise an error.
    - Before the first update, validation, checkpoints and the end of training use the current weights. Lightning uses
      the untrained weights.

    Args:
        update: Torch function that updates averaged tensors from the current tensors and the number of updates so far.
    """

    def __init__(self, update: Update) -> None:
        super().__init__(use_buffers=True, multi_avg_fn=_copying_integers(update))

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Create the averaged model on the device that the model will be moved to."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Swap the current weights for their average."""
        self._copy_before_start(pl_module)
        super().on_validation_epoch_start(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the average as the weights, and the current weights separately for resuming."""
        self._copy_before_start(pl_module)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the average into the model."""
        self._copy_before_start(pl_module)
        super().on_train_end(trainer, pl_module)

    def _copy_before_start(self, pl_module: pl.LightningModule) -> None:
        if self._average_model is not None and self._average_model.n_averaged == 0:
            self._average_model.module.load_state_dict(pl_module.state_dict())


def _copying_integers(update: Update) -> Update:
    """Restrict an update to floating-point tensors; integer tensors are copied."""

    def update_or_copy(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            update(averaged, current, int(count))
            return
        for target, source in zip(averaged, current, strict=True):
            target.copy_(source)

    return update_or_copy


class EMA(_Averaging):
    """Exponential moving average of the weights.

    Batch-norm statistics are averaged like weights. The first update copies the weights.

    Sources: Polyak, Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM Journal on Control and
    Optimization 1992; Tarvainen, Valpola, "Mean Teachers are Better Role Models", NeurIPS 2017 (exponential weights).

    Args:
        decay: Weight of the previous average in an update, at least 0 and below 1. The average covers about
            1 / (1 - decay) updates, so a run should be several times as long.
        every_n_steps: Number of optimizer steps between two updates, at least 1.
        start_step: Number of optimizer steps before the first update, at least 0.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, decay: float = 0.999, every_n_steps: int = 1, start_step: int = 0) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema.decay={decay} is invalid: must be at least 0 and below 1.")
        if every_n_steps < 1 or start_step < 0:
            raise ValueError(
                f"ema.every_n_steps={every_n_steps} must be at least 1, and ema.start_step={start_step} at least 0."
            )
        self.every_n_steps = every_n_steps
        self.start_step = start_step
        super().__init__(ema_update(decay))

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return True after every `every_n_steps`-th step from `start_step` on, counted from zero."""
        since = -1 if step_idx is None else step_idx - self.start_step
        return since >= 0 and since % self.every_n_steps == 0


class SWA(_Averaging):
    """Stochastic weight averaging: the mean of the weights at the ends of the last epochs.

    The learning rate follows the schedule and should stay high to the end. After the last epoch, one pass over the
    training batches recomputes the batch-norm statistics of the averaged model. Earlier checkpoints and validations use
    the mean of the statistics of the epochs.

    Source: Izmailov, Podoprikhin, Garipov, Vetrov, Wilson, "Averaging Weights Leads to Wider Optima and Better
    Generalization", UAI 2018.

    Args:
        start: Fraction of the epochs after which averaging starts, at least 0 and below 1.

    Raises:
        ValueError: If `start` is out of range; in training, if the number of epochs is not limited.
    """

    def __init__(self, start: float = 0.75) -> None:
        if not 0 <= start < 1:
            raise ValueError(f"swa.start={start} is invalid: must be at least 0 and below 1.")
        self.start = start
        self._start_epoch = 0
        super().__init__(swa_update())

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compute the first averaged epoch."""
        if stage == "fit":
            if trainer.max_epochs is None or trainer.max_epochs < 0:
                raise ValueError(
                    f"trainer.max_epochs={trainer.max_epochs} is invalid with SWA: must be limited, because "
                    f"swa.start={self.start} is a fraction of it."
                )
            self._start_epoch = int(trainer.max_epochs * self.start)
        super().setup(trainer, pl_module, stage)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return True after every epoch from the start of averaging on."""
        return epoch_idx is not None and epoch_idx >= self._start_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Average, and after the last epoch recompute the batch-norm statistics, before checkpoints are written."""
        super().on_train_epoch_end(trainer, pl_module)
        average = self._average_model
        if average is not None and average.n_averaged > 0 and _is_last_epoch(trainer):
            for model in cast("ReIDModule", average.module).networks:
                _recompute_statistics(model, trainer)


def _is_last_epoch(trainer: pl.Trainer) -> bool:
    epochs = trainer.max_epochs is not None and trainer.current_epoch + 1 >= trainer.max_epochs
    steps = 0 <= trainer.max_steps <= trainer.global_step
    return epochs or steps or trainer.should_stop


def _recompute_statistics(model: nn.Module, trainer: pl.Trainer) -> None:
    """Compute the batch-norm statistics of `model` in one pass over the training batches."""
    batches: Iterable[Batch] = trainer.train_dataloader or ()
    if math.isfinite(trainer.num_training_batches):
        batches = islice(batches, int(trainer.num_training_batches))
    with trainer.precision_plugin.forward_context():
        update_bn((trainer.strategy.batch_to_device(batch) for batch in batches), _BatchAdapter(model))
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):  # each rank has statistics of its own batches only
            buffer.copy_(trainer.strategy.reduce(buffer, reduce_op="mean"))


class _BatchAdapter(nn.Module):
    """Adapter that calls a model with a batch."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> object:
        return self.model(batch["image"], batch["camid"], batch.get("frame_mask"))
