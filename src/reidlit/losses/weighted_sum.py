"""Weighted sum of losses."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Loss(Protocol):
    """A loss that `WeightedSum` accepts: any `nn.Module` with this call signature.

    Attributes:
        compares: Whether the loss compares images with each other, and so needs the batch of all devices. Optional.
    """

    compares: bool = False

    def __call__(self, output: Any, pid: Tensor) -> Tensor:
        """Return the scalar loss in fp32.

        Args:
            output: Model output.
            pid: (B,) labels.
        """


class WeightedSum(nn.Module):
    """Weighted sum of named losses.

        total = sum_i weight_i * loss_i

    Args:
        losses: Losses by name. Each is an `nn.Module` with the signature of `Loss`.
        weights: Weights by name, 0 or more. The default weight is 1. A loss with weight 0 is not computed.
        starts: First epoch, counted from 0, in which a loss is included; the default is 0. Metric losses can collapse
            the features of an untrained network to a point where their gradient vanishes. Starting with classification
            alone prevents this.

    Raises:
        ValueError: If a name in weights or starts is unknown, a value is negative, all weights are zero, or no loss
            starts at epoch 0.

    Example:
        >>> import torch
        >>> from reidlit.losses import CrossEntropy, Triplet, WeightedSum
        >>> from reidlit.models import ReIDOutput
        >>> loss = WeightedSum({"softmax": CrossEntropy(), "triplet": Triplet()}, weights={"triplet": 0.5})
        >>> features, logits = torch.randn(8, 512), torch.randn(8, 751)
        >>> output = ReIDOutput(embedding=features, features=(features,), logits=(logits,))
        >>> total, terms = loss(output, torch.arange(8) % 4)
        >>> torch.allclose(total, terms["softmax"] + 0.5 * terms["triplet"])
        True
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
            raise ValueError(f"loss.weights contains unknown names {unknown}: the losses are {sorted(losses)}.")
        self.weights = {name: float(weights.get(name, 1.0)) for name in losses}
        if min(self.weights.values(), default=0.0) < 0 or not any(self.weights.values()):
            raise ValueError(
                f"loss.weights={self.weights} is invalid: weights must be at least 0, and one of them above 0."
            )
        self.starts = dict(starts or {})
        if unknown := sorted(set(self.starts) - set(losses)):
            raise ValueError(f"loss.starts contains unknown names {unknown}: the losses are {sorted(losses)}.")
        initial = [name for name, weight in self.weights.items() if weight and not self.starts.get(name, 0)]
        if min(self.starts.values(), default=0) < 0 or not initial:
            raise ValueError(
                f"loss.starts={self.starts} is invalid: epochs must be at least 0, and one loss must start at epoch 0."
            )
        self.losses = nn.ModuleDict({name: loss for name, loss in losses.items() if self.weights[name]})

    def forward(
        self, output: object, pid: Tensor, gathered: tuple[object, Tensor] | None = None, epoch: int | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the losses and their weighted sum.

        Args:
            output: Model output.
            pid: (B,) labels.
            gathered: Output and labels of the batch of all devices, for losses with `compares`. By default these losses
                use the batch of this device too.
            epoch: Training epoch, counted from 0; None to include all losses.

        Returns:
            The weighted sum, and the unweighted losses by name.
        """
        terms = {
            name: loss(*gathered)
            if gathered is not None and getattr(loss, "compares", Loss.compares)
            else loss(output, pid)
            for name, loss in self.losses.items()
            if epoch is None or epoch >= self.starts.get(name, 0)
        }
        total = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
        return total, terms
