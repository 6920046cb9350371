"""Batch-hard triplet loss, and the base class of losses that compare images with each other."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

LOWEST = torch.finfo(torch.float32).min  # has no weight in a softmax and, unlike minus infinity, never yields NaN


class HasFeatures(Protocol):
    """A model output with features."""

    @property
    def features(self) -> Sequence[Tensor]:
        """Features of each branch, (B, D_i)."""


class Comparison(nn.Module, ABC):
    """Base class of losses that compare the images of a batch with each other.

    A subclass implements `compare` for the features of one branch. The loss is the mean over branches.

    Args:
        normalize: Whether to scale features to unit length first.
    """

    compares = True

    def __init__(self, normalize: bool) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, output: HasFeatures, pid: Tensor) -> Tensor:
        """Return the scalar loss in fp32.

        Args:
            output: Model output with `features`, a (B, D_i) tensor per branch.
            pid: (B,) labels.
        """
        same = pid[:, None] == pid[None, :]
        return torch.stack([self._branch(features, same) for features in output.features]).mean()

    @abstractmethod
    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """Return the scalar loss of one branch.

        Args:
            features: (B, D) features in fp32.
            same: (B, B) mask, True where two images have the same identity.
        """

    def _branch(self, features: Tensor, same: Tensor) -> Tensor:
        # Half precision would round away the differences between small distances.
        with torch.autocast(features.device.type, enabled=False):
            features = functional.normalize(features.float()) if self.normalize else features.float()
            return self.compare(features, same)


class Triplet(Comparison):
    """Batch-hard triplet loss.

    Each image of the batch is an anchor a. It is compared with its farthest positive p and its nearest negative n:

        loss(a) = max(0, max_p d(a, p) - min_n d(a, n) + margin)

    d is the Euclidean distance. The loss is the mean over anchors and branches. An anchor with no other image of its
    identity is its own positive, at distance zero. The loss is zero if the batch has a single identity.

    Source: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", arXiv 2017.

    Args:
        margin: Distance by which a negative must be farther away than a positive, 0 or more. None for the soft margin,
            which replaces max(0, x + margin) by ln(1 + e^x).
        normalize: Whether to scale features to unit length first.

    Raises:
        ValueError: If the margin is negative or not finite.

    Example:
        >>> import torch
        >>> from reidlit.losses import Triplet
        >>> from reidlit.models import ReIDOutput
        >>> features = torch.tensor([[0.0], [3.0], [4.0], [6.0]])
        >>> output = ReIDOutput(embedding=features, features=(features,), logits=())
        >>> loss = Triplet(margin=0.3)(output, torch.tensor([0, 0, 1, 1]))
        >>> round(loss.item(), 4)
        0.9
    """

    def __init__(self, margin: float | None = 0.3, normalize: bool = False) -> None:
        super().__init__(normalize)
        self.margin = check_margin(margin)

    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """Return the mean over all anchors; see `Comparison`."""
        distance = euclidean(features)
        farthest_positive = distance.masked_fill(~same, 0).amax(1)
        nearest_negative = distance.masked_fill(same, torch.inf).amin(1)
        return hinge(farthest_positive - nearest_negative, self.margin).mean()


def exclude_self(same: Tensor) -> Tensor:
    """Return a (B, B) mask with its diagonal, where an image is compared with itself, set to False."""
    return same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)


def euclidean(features: Tensor, others: Tensor | None = None) -> Tensor:
    """Return Euclidean distances with a gradient that stays finite where vectors coincide.

    Args:
        features: (N, D) features.
        others: (M, D) features; by default the same features.

    Returns:
        (N, M) distances.
    """
    others = features if others is None else others
    norm = features.pow(2).sum(1, keepdim=True).expand(-1, len(others))
    # Reuse the sum if both are the same tensor, so that its gradient is rounded only once.
    other_norm = norm.T if others is features else others.pow(2).sum(1)[None, :]
    squared = torch.addmm(norm + other_norm, features, others.T, alpha=-2)
    return squared.clamp(min=1e-12).sqrt()


def hinge(difference: Tensor, margin: float | None) -> Tensor:
    """Return max(0, difference + margin), or ln(1 + e^difference) if the margin is None.

    The difference is minus infinity for an anchor without a negative. Loss and gradient are then zero.
    """
    return functional.softplus(difference) if margin is None else (difference + margin).relu()


def check_margin(margin: float | None) -> float | None:
    """Return the margin of a hinge loss if it is valid.

    Raises:
        ValueError: If it is negative or not finite.
    """
    if margin is not None and not 0 <= margin < math.inf:
        raise ValueError(f"margin={margin} is invalid: must be at least 0 and finite, or null for the soft margin.")
    return margin


def masked_mean(losses: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of (B,) losses where the (B,) mask is True; zero if it is nowhere True."""
    return losses.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)
