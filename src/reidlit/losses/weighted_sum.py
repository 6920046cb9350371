"""Several losses as one."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightedSum(nn.Module):
    """Named losses and their weights.

    Args:
        losses: each `loss(output, pid) -> scalar`.
        weights: one a name; a loss without one counts once, a loss of weight zero is not computed.

    Raises:
        ValueError: if a weight names no loss, is negative, or all are zero.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        weights = {} if weights is None else dict(weights)
        if unknown := sorted(set(weights) - set(losses)):
            raise ValueError(f"loss.weights names {unknown}, but the losses are {sorted(losses)}.")
        self.weights = {name: float(weights.get(name, 1.0)) for name in losses}
        if min(self.weights.values(), default=0.0) < 0 or not any(self.weights.values()):
            raise ValueError(f"loss.weights={self.weights}: weights must be 0 or more, and one of them positive.")
        self.losses = nn.ModuleDict({name: loss for name, loss in losses.items() if self.weights[name]})

    def forward(
        self, output: object, pid: Tensor, everyone: tuple[object, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each loss by its name, unweighted.

        Args:
            output: of the model.
            pid: (B,) labels.
            everyone: the same over the batches of all devices, for losses that compare images and say so by
                `compares = True`; without it they see this batch alone.
        """
        each = {
            name: loss(*everyone) if everyone is not None and getattr(loss, "compares", False) else loss(output, pid)
            for name, loss in self.losses.items()
        }
        total = torch.stack([self.weights[name] * value for name, value in each.items()]).sum()
        return total, each
