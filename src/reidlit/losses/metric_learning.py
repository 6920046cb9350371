"""The losses of pytorch-metric-learning."""

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from reidlit.losses.triplet import HasFeatures

LEFT_OUT = {
    "BaseMetricLossFunction": "is a base of others",
    "DynamicSoftMarginLoss": "has a state that checkpoints would not hold",
    "GenericPairLoss": "is a base of others",
    "InstanceLoss": "takes labels for positions in the batch",
    "ManifoldLoss": "takes no labels",
    "SmoothAPLoss": "goes by the order of the images instead of their labels (loss=smooth_ap goes by the labels)",
    "VICRegLoss": "takes no labels",
}


class MetricLearning(nn.Module):
    """A loss of pytorch-metric-learning, one for each branch; the mean over branches.

    Source: Musgrave, Belongie, Lim, "PyTorch Metric Learning", arXiv 2020. It sees the batch of all devices. Where a
    loss has proxies or weights of classes, the optimiser trains them. What its constructor calls `num_classes` and
    `embedding_size`, or `descriptors_dim`, is given unless `options` has it.

    Args:
        name: of the class in `pytorch_metric_learning.losses`.
        num_classes: C, the training identities.
        feature_sizes: D_i, the size of each branch's features.
        options: its arguments, as far as they are plain values.

    Raises:
        ValueError: if pytorch-metric-learning is not installed or has no such loss, or it does not take the options.
    """

    compares = True

    def __init__(
        self, name: str, num_classes: int, feature_sizes: Sequence[int], options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        known = known_losses()
        if name not in known:
            why = LEFT_OUT.get(name, "is no loss of pytorch-metric-learning that goes by labels")
            raise ValueError(f"name={name!r} {why}; choose one of {', '.join(known)}.")
        self.branches = nn.ModuleList(_build(known[name], dict(options or {}), num_classes, D) for D in feature_sizes)

    def forward(self, output: HasFeatures, pid: Tensor) -> Tensor:
        """Scalar loss of (B, D_i) features and (B,) labels, in fp32."""
        with torch.autocast(pid.device.type, enabled=False):
            branches = zip(self.branches, output.features, strict=True)
            return torch.stack([loss(features.float(), pid) for loss, features in branches]).mean()


def known_losses() -> dict[str, type[nn.Module]]:
    """The losses that can be named, by name.

    Raises:
        ValueError: if pytorch-metric-learning is not installed.
    """
    losses = _library()
    return {
        name: loss
        for name, loss in sorted(vars(losses).items())
        if isinstance(loss, type) and issubclass(loss, losses.BaseMetricLossFunction) and name not in LEFT_OUT
    }


def _library() -> ModuleType:
    try:
        return import_module("pytorch_metric_learning.losses")
    except ImportError as error:
        raise ValueError(
            f"loss=metric_learning needs pytorch-metric-learning: pip install 'reidlit[metric-learning]' ({error})."
        ) from error


def _build(loss: type[nn.Module], options: dict[str, Any], num_classes: int, size: int) -> nn.Module:
    takes = _arguments(loss)
    sizes = {"num_classes": num_classes, "embedding_size": size, "descriptors_dim": size}
    given = {name: value for name, value in sizes.items() if name in takes}
    try:
        built: nn.Module = loss(**{**given, **options})
    except TypeError as error:
        raise ValueError(
            f"options={options} do not fit {loss.__name__}, which takes {', '.join(takes)}: {error}"
        ) from error
    return built


def _arguments(loss: type[nn.Module]) -> list[str]:
    """The names of what a constructor takes, of its bases too, to which it hands on what it does not know."""
    named = [
        parameter.name
        for each in loss.__mro__
        if each.__module__.startswith("pytorch_metric_learning") and "__init__" in vars(each)
        for parameter in inspect.signature(each).parameters.values()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]
    return list(dict.fromkeys(named))
