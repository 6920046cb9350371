"""Adapter for the losses of pytorch-metric-learning."""

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from reidlit.losses.triplet import HasFeatures

UNSUPPORTED = {
    "BaseMetricLossFunction": "it is a base class",
    "DynamicSoftMarginLoss": "checkpoints would not contain its state",
    "GenericPairLoss": "it is a base class",
    "InstanceLoss": "it treats labels as positions in the batch",
    "ManifoldLoss": "it does not use labels",
    "SmoothAPLoss": "it uses the order of the images instead of their labels (use loss=smooth_ap instead)",
    "VICRegLoss": "it does not use labels",
}


class MetricLearning(nn.Module):
    """A loss of pytorch-metric-learning.

    Each branch has its own instance of the loss, and the result is their mean. The loss sees the batch of all devices.
    If it has parameters, such as proxies, the optimizer trains them. Its constructor receives `num_classes` and
    `embedding_size` (or `descriptors_dim`) unless `options` sets them.

    Source: Musgrave, Belongie, Lim, "PyTorch Metric Learning", arXiv 2020.

    Args:
        name: Name of a class in `pytorch_metric_learning.losses`.
        num_classes: Number of training identities, C.
        feature_sizes: Feature size D_i of each branch.
        options: Keyword arguments of the class, limited to plain values.

    Raises:
        ValueError: If pytorch-metric-learning is not installed, does not have the loss, or the loss does not accept the
            options.

    Example:
        >>> import torch
        >>> from reidlit.losses import MetricLearning
        >>> from reidlit.models import ReIDOutput
        >>> loss = MetricLearning("ProxyAnchorLoss", num_classes=751, feature_sizes=[512], options={"margin": 0.1})
        >>> features = torch.randn(8, 512)
        >>> output = ReIDOutput(embedding=features, features=(features,), logits=())
        >>> loss(output, torch.arange(8) % 4).shape
        torch.Size([])
        >>> [tuple(parameter.shape) for parameter in loss.parameters()]
        [(751, 512)]
    """

    compares = True

    def __init__(
        self, name: str, num_classes: int, feature_sizes: Sequence[int], options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        supported = supported_losses()
        if name not in supported:
            reason = UNSUPPORTED.get(name, "pytorch-metric-learning does not have this loss")
            raise ValueError(f"name={name!r} is invalid: {reason}. Choose one of {', '.join(supported)}.")
        loss = supported[name]
        self.branches = nn.ModuleList(_build(loss, dict(options or {}), num_classes, size) for size in feature_sizes)

    def forward(self, output: HasFeatures, pid: Tensor) -> Tensor:
        """Return the scalar loss in fp32.

        Args:
            output: Model output with `features`, a (B, D_i) tensor per branch.
            pid: (B,) labels.
        """
        with torch.autocast(pid.device.type, enabled=False):
            branches = zip(self.branches, output.features, strict=True)
            return torch.stack([loss(features.float(), pid) for loss, features in branches]).mean()


def supported_losses() -> dict[str, type[nn.Module]]:
    """Return the supported losses by name.

    Raises:
        ValueError: If pytorch-metric-learning is not installed.
    """
    losses = _import_losses()
    return {
        name: loss
        for name, loss in sorted(vars(losses).items())
        if isinstance(loss, type) and issubclass(loss, losses.BaseMetricLossFunction) and name not in UNSUPPORTED
    }


def _import_losses() -> ModuleType:
    try:
        return import_module("pytorch_metric_learning.losses")
    except ImportError as error:
        raise ValueError(
            f"loss=metric_learning requires pytorch-metric-learning: pip install 'reidlit[metric-learning]' ({error})."
        ) from error


def _build(loss: type[nn.Module], options: dict[str, Any], num_classes: int, size: int) -> nn.Module:
    accepted = _arguments(loss)
    sizes = {"num_classes": num_classes, "embedding_size": size, "descriptors_dim": size}
    defaults = {name: value for name, value in sizes.items() if name in accepted}
    try:
        instance: nn.Module = loss(**{**defaults, **options})
    except TypeError as error:
        raise ValueError(
            f"options={options} are invalid for {loss.__name__}: {error}. It accepts {', '.join(accepted)}."
        ) from error
    return instance


def _arguments(loss: type[nn.Module]) -> list[str]:
    """Return the argument names of a constructor, including those that it forwards to its base classes."""
    names = [
        parameter.name
        for base in loss.__mro__
        if base.__module__.startswith("pytorch_metric_learning") and "__init__" in vars(base)
        for parameter in inspect.signature(base).parameters.values()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]
    return list(dict.fromkeys(names))
