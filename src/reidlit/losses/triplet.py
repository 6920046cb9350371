"""Batch-hard triplet loss."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class HasFeatures(Protocol):
    """A model's output, as far as this loss reads it."""

    @property
    def features(self) -> Sequence[Tensor]:
        """(B, D), one a branch."""


class Triplet(nn.Module):
    """For each anchor the farthest positive and the nearest negative of the batch; the mean over branches.

    Source: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", arXiv 2017.
    Distances are Euclidean. An anchor that is alone of its identity is its own positive, at
    distance zero; with a single identity in the batch there is nothing to tell apart and the loss is zero.

    Args:
        margin: by how much a negative must be farther than a positive; `None` for the soft margin ln(1 + e^x).
        normalize: whether to scale features to length one first; else they are taken as they are.

    Raises:
        ValueError: if the margin is negative.
    """

    compares = True

    def __init__(self, margin: float | None = 0.3, normalize: bool = False) -> None:
        super().__init__()
        if margin is not None and margin < 0:
            raise ValueError(f"margin={margin} must be 0 or more, or null for the soft margin.")
        self.margin = margin
        self.normalize = normalize

    def forward(self, output: HasFeatures, pid: Tensor) -> Tensor:
        """Scalar loss of (B, D) features and (B,) labels, in fp32."""
        return torch.stack([self._branch(features, pid) for features in output.features]).mean()

    def _branch(self, features: Tensor, pid: Tensor) -> Tensor:
        # Mixed precision would round the differences of near distances away.
        with torch.autocast(features.device.type, enabled=False):
            features = functional.normalize(features.float()) if self.normalize else features.float()
            distance = euclidean(features)
            same = pid[:, None] == pid[None, :]
            farthest_positive = distance.masked_fill(~same, 0).amax(1)
            nearest_negative = distance.masked_fill(same, torch.inf).amin(1)
            difference = farthest_positive - nearest_negative
            # A single identity has no negative: minus infinity, of which both forms make zero, also of the gradient.
            hinge = functional.softplus(difference) if self.margin is None else (difference + self.margin).relu()
            return hinge.mean()


def euclidean(features: Tensor) -> Tensor:
    """(N, D) -> (N, N) Euclidean distances whose gradient stays finite where features coincide."""
    norm = features.pow(2).sum(1, keepdim=True).expand(-1, len(features))
    squared = torch.addmm(norm + norm.T, features, features.T, alpha=-2)
    return squared.clamp(min=1e-12).sqrt()
