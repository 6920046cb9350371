"""Classification over the training identities."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class HasLogits(Protocol):
    """A model's output, as far as this loss reads it."""

    @property
    def logits(self) -> Sequence[Tensor]:
        """(B, C), one a branch."""


class CrossEntropy(nn.Module):
    """Cross entropy with label smoothing, the mean over branches.

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016 (smoothing).

    Args:
        label_smoothing: share of the target that is spread over all classes, 0 to 1.

    Raises:
        ValueError: if the share is outside 0 to 1.
    """

    def __init__(self, label_smoothing: float = 0.1) -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing={label_smoothing} must lie in 0 to 1.")
        self.label_smoothing = label_smoothing

    def forward(self, output: HasLogits, pid: Tensor) -> Tensor:
        """Scalar loss of (B, C) logits and (B,) labels, in fp32."""
        losses = [
            functional.cross_entropy(logits.float(), pid, label_smoothing=self.label_smoothing)
            for logits in output.logits
        ]
        return torch.stack(losses).mean()
