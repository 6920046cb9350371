"""Cross entropy over the training identities."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class HasLogits(Protocol):
    """A model output with logits."""

    @property
    def logits(self) -> Sequence[Tensor]:
        """Logits of each branch, (B, C)."""


class CrossEntropy(nn.Module):
    """Cross entropy over identities, with label smoothing.

        loss = -sum_c q_c * log_softmax(logits)_c

    The target distribution is q_c = label_smoothing / C, plus 1 - label_smoothing for the true identity. The loss is
    the mean over images and branches.

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016 (label smoothing).

    Args:
        label_smoothing: Fraction of the target that is spread evenly over all classes, between 0 and 1.

    Raises:
        ValueError: If label_smoothing is not between 0 and 1.

    Example:
        >>> import torch
        >>> from reidlit.losses import CrossEntropy
        >>> from reidlit.models import ReIDOutput
        >>> logits = torch.tensor([[2.0, 0.0, 0.0]])
        >>> output = ReIDOutput(embedding=logits, features=(), logits=(logits,))
        >>> loss = CrossEntropy(label_smoothing=0.1)(output, torch.tensor([0]))
        >>> round(loss.item(), 4)
        0.3729
    """

    def __init__(self, label_smoothing: float = 0.1) -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing={label_smoothing} is invalid: must be between 0 and 1.")
        self.label_smoothing = label_smoothing

    def forward(self, output: HasLogits, pid: Tensor) -> Tensor:
        """Return the scalar loss in fp32.

        Args:
            output: Model output with `logits`, a (B, C) tensor per branch.
            pid: (B,) labels.
        """
        losses = [
            functional.cross_entropy(logits.float(), pid, label_smoothing=self.label_smoothing)
            for logits in output.logits
        ]
        return torch.stack(losses).mean()
