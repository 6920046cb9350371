"""Several losses as one."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Loss(Protocol):
    """A loss as `WeightedSum` calls it: any `nn.Module` with such a `forward`.

    Attributes:
        compares: Whether the loss compares images with each other, and needs the batches of all devices; optional.
    """

    compares: bool = False

    def __call__(self, output: Any, pid: Tensor) -> Tensor:
        """Return the scalar loss, in fp32, of a model's output and the labels (B,)."""


class WeightedSum(nn.Module):
    """Named losses and their weights.

    Args:
        losses: by name; each an `nn.Module` that is a `Loss`.
        weights: one a name; a loss without one counts once, a loss of weight zero is not computed.
        starts: the epoch from which a loss counts, counted from 0; without one, from the start. Losses on pairs can pull the
            features of a fresh network to a point, from where no gradient leads away; classification first prevents it.

    Raises:
        ValueError: if a weight names no loss, is negative, or all are zero; or likewise of a start, or no loss counts at first.
    """

    def __init__(
        self,
        losses: Mapping[str, nn.Module],
        weights: Mapping[str, float] | None = None,
        starts: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        weights = {} if weights is None else dict(weights)
        if unknown := sorted(set(weights) - set(losses)):
            raise ValueError(f"loss.weights names {unknown}, but the losses are {sorted(losses)}.")
        self.weights = {name: float(weights.get(name, 1.0)) for name in losses}
        if min(self.weights.values(), default=0.0) < 0 or not any(self.weights.values()):
            raise ValueError(f"loss.weights={self.weights}: weights must be 0 or more, and one of them positive.")
        self.starts = dict(starts or {})
        if unknown := sorted(set(self.starts) - set(losses)):
            raise ValueError(f"loss.starts names {unknown}, but the losses are {sorted(losses)}.")
        first = [name for name, weight in self.weights.items() if weight and not self.starts.get(name, 0)]
        if min(self.starts.values(), default=0) < 0 or not first:
            raise ValueError(f"loss.starts={self.starts}: epochs must be 0 or more, and one loss must count from 0.")
        self.losses = nn.ModuleDict({name: loss for name, loss in losses.items() if self.weights[name]})

    def forward(
        self, output: object, pid: Tensor, everyone: tuple[object, Tensor] | None = None, epoch: int | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each loss by its name, unweighted.

        Args:
            output: of the model.
            pid: (B,) labels.
            everyone: the same over the batches of all devices, for losses with `compares`; without it they see this batch
                alone.
            epoch: of the training; `None` lets all losses count.
        """
        each = {
            name: loss(*everyone)
            if everyone is not None and getattr(loss, "compares", Loss.compares)
            else loss(output, pid)
            for name, loss in self.losses.items()
            if epoch is None or epoch >= self.starts.get(name, 0)
        }
        total = torch.stack([self.weights[name] * value for name, value in each.items()]).sum()
        return total, each
