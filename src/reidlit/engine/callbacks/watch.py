"""What tells that a training goes wrong: a loss that is no number, and embeddings that collapse."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

ON_NAN = ("stop", "skip")
SHOWN = 8  # paths in a message
SKIPPED_IN_A_ROW = 20  # after which leaving out batches will not help any more
STEPS_BETWEEN_LOOKS = 20  # on a device that runs ahead of the program
ROUNDING = 1e-6  # a spread below it is that of equal embeddings


class LossWatch(pl.Callback):
    """Acts on a loss that is NaN or infinite, and lets no checkpoint be written with weights that are.

    Reading a value makes the program wait for the device, so with `stop` the losses of a GPU are looked at every few steps,
    and before each validation and checkpoint; those of a CPU at every step, before they reach the weights. The
    losses of all ranks count, and all ranks stop. What a gradient scaler leaves out is no error: there the loss is finite.

    Args:
        on_nan: `stop` raises an error that names the images; `skip` leaves the weights, the optimiser and the buffers (such
            as batch-norm statistics) as they were before the step, of all its batches where gradients accumulate, goes on,
            and logs the count of such steps as `train/skipped`. It looks at every step and copies the buffers, which
            costs a little; after 20 steps in a row it stops too.
        every_n_steps: batches from one look to the next with `stop`; `None` for 1 on a CPU and 20 elsewhere.

    Raises:
        ValueError: if an option is out of range; later, if a loss or a weight is NaN or infinite.
    """

    def __init__(self, on_nan: str = "stop", every_n_steps: int | None = None) -> None:
        if on_nan not in ON_NAN:
            raise ValueError(f"watch.on_nan={on_nan!r} must be one of {', '.join(ON_NAN)}.")
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"watch.every_n_steps={every_n_steps} must be 1 or more, or null.")
        self.skip = on_nan == "skip"
        self.every_n_steps = every_n_steps
        self.skipped = 0
        self._in_a_row = 0
        self._images = torch.empty(0)
        self._unread: list[_Step] = []
        self._buffers: dict[str, Tensor] = {}
        self._bad_batch: _Step | None = None
        self._bad_step: _Step | None = None

    def state_dict(self) -> dict[str, Any]:
        """How many steps were left out."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped = state_dict["skipped"]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Mapping[str, Tensor], batch_idx: int
    ) -> None:
        """Remember the images, and what the model's forward pass will change."""
        self._images = batch["index"]
        if self.skip:
            self._buffers = {name: buffer.clone() for name, buffer in pl_module.named_buffers()}

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Note the loss, and look at it if it is time."""
        self._unread.append(_Step(loss.detach(), self._images, trainer.current_epoch, trainer.global_step))
        if self.skip:
            self._bad_batch = self._first_bad(trainer)
            self._bad_step = self._bad_step or self._bad_batch
            return
        default = 1 if trainer.strategy.root_device.type == "cpu" else STEPS_BETWEEN_LOOKS
        if len(self._unread) >= (self.every_n_steps or default):
            self._check(trainer)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Take the gradients of a bad step away: optimisers pass over parameters that have none."""
        bad, self._bad_step = self._bad_step, None
        if bad is None:
            self._in_a_row = 0
            return
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row > SKIPPED_IN_A_ROW:
            raise _error(trainer, bad, f"So it was for {SKIPPED_IN_A_ROW} steps before, which were left out.")
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            scaler.unscale_(optimizer)  # a fused optimiser would do it in its step, and then miss the gradients
        optimizer.zero_grad(set_to_none=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Undo what a bad batch did to the buffers; not before, since the backward pass reads them."""
        if self.skip:
            if self._bad_batch is not None:
                for name, buffer in pl_module.named_buffers():
                    buffer.copy_(self._buffers[name])
            pl_module.log("train/skipped", float(self.skipped))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look: the scores of broken weights mean nothing."""
        self._check(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at what is left."""
        self._check(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Look before the file is touched, at the weights too: a gradient can be NaN where the loss is not.

        Raises:
            ValueError: if they are broken.
        """
        self._check(trainer)
        finite = torch.stack([parameter.detach().isfinite().all() for parameter in pl_module.parameters()]).all()
        if trainer.strategy.reduce((~finite).float(), reduce_op="max"):
            raise ValueError(
                f"Weights are NaN or infinite after step {trainer.global_step} in epoch {trainer.current_epoch}, though the "
                f"losses were finite: a gradient was not. {_last_checkpoint(trainer)} {WAY_OUT}"
            )

    def _check(self, trainer: pl.Trainer) -> None:
        bad = self._first_bad(trainer)
        if bad is not None:
            raise _error(trainer, bad, "callbacks.watch.on_nan=skip leaves such batches out.")

    def _first_bad(self, trainer: pl.Trainer) -> "_Step | None":
        """The first step since the last look whose loss was bad on any rank, so that all ranks act alike."""
        steps, self._unread = self._unread, []
        if not steps:
            return None
        bad = (~torch.stack([step.loss for step in steps]).isfinite()).float()
        each = trainer.strategy.reduce(bad, reduce_op="max").tolist()
        return next((step for step, is_bad in zip(steps, each, strict=True) if is_bad), None)


class SpreadWatch(pl.Callback):
    """Logs how far the embeddings of a batch lie apart, and warns when they collapse to one point.

    It looks at the first step and whenever the loggers do. Logged are, of what metric losses read, of the first branch and
    the first rank: `train/positive_distance` and `train/negative_distance`, the mean Euclidean distances of pairs of one
    identity and of two, as far as the batch has such pairs; and `train/spread`, see `spread`. It collapses where training
    with a high learning rate from scratch finds that equal embeddings, often zero, are the cheapest (Hermans, Beyer, Leibe,
    "In Defense of the Triplet Loss for Person Re-Identification", arXiv 2017, section 3.2); the gradient is zero there, so
    the loss stays for good.

    What counts is the fall, since some networks, those with a small layer scale for one, begin with a tiny spread.

    Args:
        fall: the share of the widest spread so far below which the embeddings count as equal.
        looks: how many in a row must see it.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(self, fall: float = 1e-3, looks: int = 5) -> None:
        if not 0 < fall < 1:
            raise ValueError(f"spread.fall={fall} must lie between 0 and 1.")
        if looks < 1:
            raise ValueError(f"spread.looks={looks} must be 1 or more.")
        self.fall = fall
        self.looks = looks
        self.widest = 0.0
        self._step = 0
        self._in_a_row = 0
        self._warned = False

    def state_dict(self) -> dict[str, Any]:
        """The widest spread."""
        return {"widest": self.widest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from it."""
        self.widest = state_dict["widest"]

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Mapping[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Look, if it is time and there are several images."""
        step: int = trainer.global_step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by its logger connector
        features, pid = (outputs or {}).get("features"), batch["pid"]
        if features is None or len(features) < 2 or step == self._step or not every or (step > 1 and step % every):
            return
        self._step = step
        logged = {"spread": spread(features), **distances(features, pid)}
        pl_module.log_dict({f"train/{name}": value for name, value in logged.items()}, batch_size=len(pid))
        self._judge(float(logged["spread"]), step)

    def _judge(self, seen: float, step: int) -> None:
        self.widest = max(self.widest, seen)
        self._in_a_row = self._in_a_row + 1 if seen <= max(self.fall * self.widest, ROUNDING) else 0
        if self._in_a_row == self.looks and not self._warned:
            self._warned = True
            rank_zero_warn(
                f"The embeddings have collapsed to one point: up to step {step}, {self.looks} looks in a row found a "
                f"train/spread of no more than {seen:.2g}, and it was {self.widest:.2g} before. The model tells nobody apart, "
                "and the loss will stay as it is (a soft-margin triplet loss at ln 2, a hard one at its margin, softmax at "
                "ln(classes)). Start again with a lower optimizer.lr, with scheduler.warmup_epochs=5, with the hard margin "
                "loss.losses.triplet.margin=0.3, or with softmax first: loss=softmax_triplet +loss.starts.triplet=10."
            )


def spread(features: Tensor) -> Tensor:
    """How far embeddings lie apart for their size: 0 where all are equal or zero, 1 where their mean is zero.

    The root mean squared deviation of (N, D) embeddings from their mean, over their root mean square norm.
    """
    features = features.float()
    deviation = (features - features.mean(0)).square().sum(1).mean()
    norm = features.square().sum(1).mean()
    return (deviation / norm.clamp(min=torch.finfo(torch.float32).tiny)).sqrt()


def distances(features: Tensor, pid: Tensor) -> dict[str, Tensor]:
    """Mean Euclidean distances of pairs of one identity and of two; of (N, D) embeddings with (N,) identities.

    Returns:
        `positive_distance` and `negative_distance`, each only if there is such a pair.
    """
    # Matrix products would round the distances of nearly equal embeddings away.
    distance = torch.cdist(features.float(), features.float(), compute_mode="donot_use_mm_for_euclid_dist")
    same = pid[:, None] == pid[None, :]
    pairs = {"positive": same & ~torch.eye(len(pid), dtype=torch.bool, device=pid.device), "negative": ~same}
    return {f"{name}_distance": distance[mask].mean() for name, mask in pairs.items() if mask.any()}


class _Step(NamedTuple):
    """A batch whose loss was computed, where it need not be known yet."""

    loss: Tensor
    images: Tensor
    epoch: int
    step: int


WAY_OUT = (
    "Try a lower optimizer.lr, scheduler.warmup_epochs=5, trainer.gradient_clip_val=1 or trainer.precision=32-true."
)


def _error(trainer: pl.Trainer, bad: _Step, more: str) -> ValueError:
    """Called on all ranks, since each knows only the images of its own batch."""
    own = [] if bool(bad.loss.isfinite()) else bad.images.tolist()
    ranks: list[Any] = [own]
    if trainer.world_size > 1:
        ranks = [None] * trainer.world_size
        torch.distributed.all_gather_object(ranks, own)
    paths = _paths(trainer, dict.fromkeys(index for each in ranks for index in each))
    rest = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ValueError(
        f"The loss is NaN or infinite in epoch {bad.epoch}, at step {bad.step}, as the loggers count them. The images of its "
        f"batch: {', '.join(paths[:SHOWN])}{rest}. {_last_checkpoint(trainer)} {WAY_OUT} {more}"
    )


def _paths(trainer: pl.Trainer, indices: Iterable[int]) -> list[str]:
    samples = getattr(getattr(trainer, "datamodule", None), "train", None)
    if not samples:
        return [f"sample {index}" for index in indices]
    found = [samples[index].path for index in indices]
    return [path if isinstance(path, str) else f"{path[0]} and its tracklet" for path in found]


def _last_checkpoint(trainer: pl.Trainer) -> str:
    """A sentence that names the newest checkpoint of this run, or else the one that it was resumed from."""
    named = [
        str(getattr(callback, name, "") or "")
        for callback in trainer.checkpoint_callbacks
        for name in ("best_model_path", "last_model_path")
    ]
    written = [Path(path) for path in [*named, str(trainer.ckpt_path or "")] if Path(path).is_file()]
    if not written:
        return "No checkpoint was written before it."
    last = max(written, key=lambda path: path.stat().st_mtime)
    return f"The last good checkpoint is {last}: ckpt_path goes on from it at its rate, weights starts anew from it."
