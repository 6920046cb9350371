"""Batch-hard triplet loss, and what losses that compare images have in common."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

LOWEST = torch.finfo(torch.float32).min  # counts for nothing in a softmax, and unlike minus infinity never makes NaN


class HasFeatures(Protocol):
    """A model's output, as far as this loss reads it."""

    @property
    def features(self) -> Sequence[Tensor]:
        """(B, D), one a branch."""


class Comparison(nn.Module, ABC):
    """A loss that compares the images of a batch with each other, the mean over branches; each kind says how.

    Args:
        normalize: whether to scale features to length one first; else they are taken as they are.
    """

    compares = True

    def __init__(self, normalize: bool) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, output: HasFeatures, pid: Tensor) -> Tensor:
        """Scalar loss of (B, D) features and (B,) labels, in fp32."""
        same = pid[:, None] == pid[None, :]
        return torch.stack([self._branch(features, same) for features in output.features]).mean()

    @abstractmethod
    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """Scalar loss of (B, D) features in fp32, by whether two of them are of the same identity (B, B)."""

    def _branch(self, features: Tensor, same: Tensor) -> Tensor:
        # Mixed precision would round the differences of near distances away.
        with torch.autocast(features.device.type, enabled=False):
            features = functional.normalize(features.float()) if self.normalize else features.float()
            return self.compare(features, same)


class Triplet(Comparison):
    """For each anchor the farthest positive and the nearest negative of the batch; the mean over branches.

    Source: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", arXiv 2017.
    Distances are Euclidean. An anchor that is alone of its identity is its own positive, at
    distance zero; with a single identity in the batch there is nothing to tell apart and the loss is zero.

    Args:
        margin: by how much a negative must be farther than a positive; `None` for the soft margin ln(1 + e^x).
        normalize: whether to scale features to length one first; else they are taken as they are.

    Raises:
        ValueError: if the margin is negative or not finite.
    """

    def __init__(self, margin: float | None = 0.3, normalize: bool = False) -> None:
        super().__init__(normalize)
        self.margin = checked_margin(margin)

    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """The mean over all anchors."""
        distance = euclidean(features)
        farthest_positive = distance.masked_fill(~same, 0).amax(1)
        nearest_negative = distance.masked_fill(same, torch.inf).amin(1)
        return hinge(farthest_positive - nearest_negative, self.margin).mean()


def without_itself(same: Tensor) -> Tensor:
    """(B, B) the same without the diagonal, where an image meets itself."""
    return same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)


def euclidean(features: Tensor, others: Tensor | None = None) -> Tensor:
    """(N, D) and (M, D), or the same -> (N, M) Euclidean distances whose gradient stays finite where vectors coincide."""
    others = features if others is None else others
    norm = features.pow(2).sum(1, keepdim=True).expand(-1, len(others))
    # One sum for both where they are the same: its gradient is then rounded once.
    other_norm = norm.T if others is features else others.pow(2).sum(1)[None, :]
    squared = torch.addmm(norm + other_norm, features, others.T, alpha=-2)
    return squared.clamp(min=1e-12).sqrt()


def hinge(difference: Tensor, margin: float | None) -> Tensor:
    """[difference + margin]+, or ln(1 + e^difference); zero, also of gradient, at minus infinity: without a negative."""
    return functional.softplus(difference) if margin is None else (difference + margin).relu()


def checked_margin(margin: float | None) -> float | None:
    """The margin of a hinge.

    Raises:
        ValueError: if it is negative or not finite.
    """
    if margin is not None and not 0 <= margin < math.inf:
        raise ValueError(f"margin={margin} must be 0 or more, or null for the soft margin.")
    return margin


def mean_over(counts: Tensor, losses: Tensor) -> Tensor:
    """The mean of (B,) losses over the anchors that count (B,); zero if none does."""
    return losses.masked_fill(~counts, 0).sum() / counts.sum().clamp(min=1)
