"""A callback that stops training on NaN or infinite losses and weights, or skips such steps."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from reidlit.engine.callbacks.lightning_internals import pending_scaler

ON_NAN = ("stop", "skip")
MAX_PATHS = 8  # listed in an error message
MAX_SKIPPED_IN_A_ROW = 20  # after more, skipping batches will not help
DEVICE_CHECK_INTERVAL = 20  # batches, on a device that runs asynchronously
REMEDY = (
    "Try a lower optimizer.lr, scheduler.warmup_epochs=5, trainer.gradient_clip_val=1 or trainer.precision=32-true."
)


class NaNGuard(pl.Callback):
    """Callback that stops training on a NaN or infinite loss, or skips such steps.

    It also prevents checkpoints with NaN or infinite weights.

    Reading a loss synchronizes with the device. With `stop`, losses on a GPU are therefore checked every few steps and
    before each validation and checkpoint. Losses on a CPU are checked at every step, before they affect the weights. If
    the loss of any rank is bad, all ranks stop. A step that a gradient scaler skips is not an error, because its loss
    is finite.

    Args:
        on_nan: "stop" raises an error that lists the images of the batch. "skip" leaves the weights, the optimizer
            state and the buffers (such as batch-norm statistics) as they were before the step, continues, and logs the
            number of skipped steps as `train/skipped`. With gradient accumulation it skips all batches of the step. It
            is slightly slower, because it checks every step and copies the buffers. After 20 consecutive skipped steps,
            training stops.
        every_n_steps: Number of batches between two checks with "stop"; None for 1 on a CPU and 20 elsewhere.

    Raises:
        ValueError: If an argument is out of range; during training, if a loss or a weight is NaN or infinite.
    """

    def __init__(self, on_nan: str = "stop", every_n_steps: int | None = None) -> None:
        if on_nan not in ON_NAN:
            raise ValueError(f"watch.on_nan={on_nan!r} is invalid: must be one of {', '.join(ON_NAN)}.")
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"watch.every_n_steps={every_n_steps} is invalid: must be at least 1, or null.")
        self.skip = on_nan == "skip"
        self.every_n_steps = every_n_steps
        self.skipped = 0
        self._in_a_row = 0
        self._images = torch.empty(0)
        self._unchecked: list[_Step] = []
        self._buffers: dict[str, Tensor] = {}
        self._bad_batch: _Step | None = None
        self._bad_step: _Step | None = None

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints: the original class name, which existing checkpoints contain."""
        return "LossWatch"

    def state_dict(self) -> dict[str, Any]:
        """Return the number of skipped steps."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of skipped steps."""
        self.skipped = state_dict["skipped"]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Mapping[str, Tensor], batch_idx: int
    ) -> None:
        """Store the image indices, and the buffers, which the forward pass will change."""
        self._images = batch["index"]
        if self.skip:
            self._buffers = {name: buffer.clone() for name, buffer in pl_module.named_buffers()}

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Record the loss, and check the recorded ones if a check is due."""
        self._unchecked.append(_Step(loss.detach(), self._images, trainer.current_epoch, trainer.global_step))
        if self.skip:
            self._bad_batch = self._first_bad(trainer)
            self._bad_step = self._bad_step or self._bad_batch
            return
        default = 1 if trainer.strategy.root_device.type == "cpu" else DEVICE_CHECK_INTERVAL
        if len(self._unchecked) >= (self.every_n_steps or default):
            self._check(trainer)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Remove the gradients of a bad step: optimizers ignore parameters without one.

        Raises:
            ValueError: If too many consecutive steps were bad.
        """
        bad, self._bad_step = self._bad_step, None
        if bad is None:
            self._in_a_row = 0
            return
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row > MAX_SKIPPED_IN_A_ROW:
            raise _error(trainer, bad, f"The {MAX_SKIPPED_IN_A_ROW} steps before it were skipped for the same reason.")
        scaler = pending_scaler(trainer, optimizer)
        if scaler is not None:
            scaler.unscale_(optimizer)  # a fused optimizer would unscale in its step, and fail without gradients
        optimizer.zero_grad(set_to_none=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Restore the buffers that a bad batch changed. The backward pass needs them, so it cannot be done earlier."""
        if self.skip:
            if self._bad_batch is not None:
                for name, buffer in pl_module.named_buffers():
                    buffer.copy_(self._buffers[name])
            pl_module.log("train/skipped", float(self.skipped))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the recorded losses before validation, as scores of broken weights are meaningless."""
        self._check(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the remaining losses."""
        self._check(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check losses and weights before the file is written: a gradient can be NaN although the loss is finite.

        Raises:
            ValueError: If a loss or a weight is NaN or infinite.
        """
        self._check(trainer)
        finite = torch.stack([parameter.detach().isfinite().all() for parameter in pl_module.parameters()]).all()
        if trainer.strategy.reduce((~finite).float(), reduce_op="max"):
            raise ValueError(
                f"Weights are NaN or infinite after step {trainer.global_step} in epoch {trainer.current_epoch}. The "
                f"losses were finite, but a gradient was not. {_last_checkpoint(trainer)} {REMEDY}"
            )

    def _check(self, trainer: pl.Trainer) -> None:
        bad = self._first_bad(trainer)
        if bad is not None:
            raise _error(trainer, bad, "Set callbacks.watch.on_nan=skip to skip such batches.")

    def _first_bad(self, trainer: pl.Trainer) -> "_Step | None":
        """Return the first unchecked step with a bad loss on any rank, the same step on all ranks."""
        steps, self._unchecked = self._unchecked, []
        if not steps:
            return None
        bad = (~torch.stack([step.loss for step in steps]).isfinite()).float()
        on_any_rank = trainer.strategy.reduce(bad, reduce_op="max").tolist()
        return next((step for step, is_bad in zip(steps, on_any_rank, strict=True) if is_bad), None)


class _Step(NamedTuple):
    """A batch and its loss, whose value may not have been computed yet."""

    loss: Tensor
    images: Tensor
    epoch: int
    step: int


def _error(trainer: pl.Trainer, bad: _Step, hint: str) -> ValueError:
    """Return the error for a bad loss. All ranks must call this, because it gathers the image indices of all ranks."""
    rank_indices = [] if bool(bad.loss.isfinite()) else bad.images.tolist()
    all_indices: list[Any] = [rank_indices]
    if trainer.world_size > 1:
        all_indices = [None] * trainer.world_size
        torch.distributed.all_gather_object(all_indices, rank_indices)
    paths = _paths(trainer, dict.fromkeys(index for indices in all_indices for index in indices))
    rest = f" and {len(paths) - MAX_PATHS} more" if len(paths) > MAX_PATHS else ""
    return ValueError(
        f"The loss is NaN or infinite in epoch {bad.epoch}, at step {bad.step} (as logged). Images of the batch: "
        f"{', '.join(paths[:MAX_PATHS])}{rest}. {_last_checkpoint(trainer)} {REMEDY} {hint}"
    )


def _paths(trainer: pl.Trainer, indices: Iterable[int]) -> list[str]:
    samples = getattr(getattr(trainer, "datamodule", None), "train", None)
    if not samples:
        return [f"sample {index}" for index in indices]
    paths = [samples[index].path for index in indices]
    return [path if isinstance(path, str) else f"{path[0]} and its tracklet" for path in paths]


def _last_checkpoint(trainer: pl.Trainer) -> str:
    """Return a sentence with the newest checkpoint of this run, or else the one that it was resumed from."""
    paths = [trainer.ckpt_path]
    for callback in trainer.checkpoint_callbacks:
        paths += [getattr(callback, name, None) for name in ("best_model_path", "last_model_path")]
    existing = [Path(path) for path in paths if path and Path(path).is_file()]
    if not existing:
        return "No earlier checkpoint exists."
    last = max(existing, key=lambda path: path.stat().st_mtime)
    return f"The last good checkpoint is {last}. Resume it with ckpt_path, or start a new run from it with weights."
