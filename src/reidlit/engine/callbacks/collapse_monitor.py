"""A callback that detects embeddings collapsing to one point."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from reidlit.engine.callbacks.lightning_internals import is_logged

ROUNDING = 1e-6  # embeddings with a smaller spread are equal up to rounding


class CollapseMonitor(pl.Callback):
    """Callback that logs the spread of embeddings, and warns once when they collapse to one point.

    It measures the features of the first branch, on the first rank, at the first step and at every step that the
    loggers record. It logs `train/spread` (see `spread`) and, if the batch has such pairs, the mean Euclidean distances
    within and between identities as `train/positive_distance` and `train/negative_distance`.

    Training from scratch with a high learning rate may find that equal embeddings, often zero, are the cheapest
    solution (Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", arXiv 2017, section
    3.2). The gradient is zero there, so the loss never recovers. A collapse is a drop of the spread, not a small
    spread: some networks, for example those with a small layer scale, start with a tiny spread.

    Args:
        fall: Fraction of the largest spread so far below which the embeddings count as equal, above 0 and below 1.
        looks: Number of consecutive measurements that must be below it, at least 1.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, fall: float = 1e-3, looks: int = 5) -> None:
        if not 0 < fall < 1:
            raise ValueError(f"spread.fall={fall} is invalid: must be above 0 and below 1.")
        if looks < 1:
            raise ValueError(f"spread.looks={looks} is invalid: must be at least 1.")
        self.fall = fall
        self.looks = looks
        self.widest = 0.0
        self._step = 0
        self._in_a_row = 0
        self._warned = False

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints: the original class name, which existing checkpoints contain."""
        return "SpreadWatch"

    def state_dict(self) -> dict[str, Any]:
        """Return the largest spread so far."""
        return {"widest": self.widest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the largest spread so far."""
        self.widest = state_dict["widest"]

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Mapping[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Log the spread and the distances of a batch of several images if the step is logged."""
        step = trainer.global_step
        features, pid = (outputs or {}).get("features"), batch["pid"]
        is_new = step != self._step  # several batches may accumulate to one step
        if features is None or len(features) < 2 or not is_new or not is_logged(trainer, step, first=True):
            return
        self._step = step
        measured = {"spread": spread(features), **distances(features, pid)}
        pl_module.log_dict({f"train/{name}": value for name, value in measured.items()}, batch_size=len(pid))
        self.update(float(measured["spread"]), step)

    def update(self, measured: float, step: int) -> None:
        """Warn if this spread completes a series of `looks` collapsed ones.

        Args:
            measured: Spread of the batch.
            step: Number of the optimizer step, for the message.
        """
        self.widest = max(self.widest, measured)
        self._in_a_row = self._in_a_row + 1 if measured <= max(self.fall * self.widest, ROUNDING) else 0
        if self._in_a_row == self.looks and not self._warned:
            self._warned = True
            rank_zero_warn(
                f"The embeddings have collapsed to one point: train/spread fell from {self.widest:.2g} to "
                f"{measured:.2g} and stayed low for {self.looks} measurements, up to step {step}. The model no longer "
                "distinguishes identities, and the loss will stay constant (ln 2 for a soft-margin triplet loss, its "
                "margin for a hard one, ln(classes) for softmax). Restart with a lower optimizer.lr, "
                "scheduler.warmup_epochs=5, the hard margin loss.losses.triplet.margin=0.3, or softmax first: "
                "loss=softmax_triplet +loss.starts.triplet=10."
            )


def spread(features: Tensor) -> Tensor:
    """Return the relative spread of (N, D) embeddings: 0 if all are equal or zero, 1 if their mean is zero.

    The spread is the root mean square distance to the mean embedding, divided by the root mean square norm.
    """
    features = features.float()
    deviation = (features - features.mean(0)).square().sum(1).mean()
    norm = features.square().sum(1).mean()
    return (deviation / norm.clamp(min=torch.finfo(torch.float32).tiny)).sqrt()


def distances(features: Tensor, pid: Tensor) -> dict[str, Tensor]:
    """Return the mean Euclidean distances within and between identities.

    Args:
        features: (N, D) embeddings.
        pid: (N,) identities.

    Returns:
        `positive_distance` and `negative_distance`, each only if the batch has such pairs.
    """
    # Computing distances by matrix products would round those of nearly equal embeddings to zero.
    distance = torch.cdist(features.float(), features.float(), compute_mode="donot_use_mm_for_euclid_dist")
    same = pid[:, None] == pid[None, :]
    pairs = {"positive": same & ~torch.eye(len(pid), dtype=torch.bool, device=pid.device), "negative": ~same}
    return {f"{name}_distance": distance[mask].mean() for name, mask in pairs.items() if mask.any()}
