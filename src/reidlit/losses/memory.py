"""Contrastive loss with a memory of one prototype per identity."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.losses.center import updates_state, write_rows
from reidlit.losses.triplet import LOWEST, HasFeatures, masked_mean

MODES = ("mean", "hardest")


class PrototypeMemory(nn.Module):
    """Contrastive loss of images against a memory of identity prototypes.

    For an image x of identity y and unit-length prototypes m of the C identities:

        loss = -ln(exp(cos(x, m_y) / temperature) / sum_c exp(cos(x, m_c) / temperature))

    The loss is the mean over images and branches. An identity has no prototype before its first batch. Until then it is
    excluded from the sum, and its images are excluded from the mean. The loss is zero if no image remains.

    Prototypes are buffers, saved in checkpoints. In training, after the loss is computed, the prototype of each
    identity in the batch becomes momentum * m + (1 - momentum) * x, scaled to unit length, where x represents the
    images of the identity.

    Source: Dai, Wang, Yuan, Zhu, Tan, "Cluster Contrast for Unsupervised Person Re-Identification", ACCV 2022, with
    training identities instead of clusters.

    Args:
        num_classes: Number of training identities, C.
        feature_sizes: Feature size D_i of each branch.
        temperature: Divisor of the cosines, above 0. A lower value emphasizes similar identities.
        momentum: Fraction of a prototype that is kept in an update, at least 0 and below 1.
        mode: Vector x that represents the images of an identity: "mean" of their unit-length features, or "hardest",
            the image least similar to the prototype. A new prototype is always a mean.

    Raises:
        ValueError: If temperature or momentum is out of range, or mode is unknown.

    Example:
        >>> import torch
        >>> from reidlit.losses import PrototypeMemory
        >>> from reidlit.models import ReIDOutput
        >>> features = torch.tensor([[3.0, 4.0]])
        >>> output = ReIDOutput(embedding=features, features=(features,), logits=())
        >>> loss = PrototypeMemory(num_classes=751, feature_sizes=[2])
        >>> loss(output, torch.tensor([7])).item()  # identity 7 has no prototype yet
        0.0
        >>> loss.prototypes[7]
        tensor([0.6000, 0.8000])
    """

    # Images are compared with prototypes only, but all devices need the same batch to keep their prototypes equal.
    compares = True

    def __init__(
        self,
        num_classes: int,
        feature_sizes: Sequence[int],
        temperature: float = 0.05,
        momentum: float = 0.2,
        mode: str = "mean",
    ) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature={temperature} is invalid: must be above 0 and finite.")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum} is invalid: must be at least 0 and below 1.")
        if mode not in MODES:
            raise ValueError(f"mode={mode!r} is invalid: must be one of {', '.join(MODES)}.")
        self.feature_sizes = list(feature_sizes)
        self.temperature = temperature
        self.momentum = momentum
        self.mode = mode
        self.prototypes: Tensor  # branches are concatenated; a row is zero until its identity occurs
        self.register_buffer("prototypes", torch.zeros(num_classes, sum(feature_sizes)))

    def forward(self, output: HasFeatures, pid: Tensor) -> Tensor:
        """Return the scalar loss in fp32, and update the prototypes in training.

        Args:
            output: Model output with `features`, a (B, D_i) tensor per branch.
            pid: (B,) labels.
        """
        with torch.autocast(pid.device.type, enabled=False):
            features = [functional.normalize(branch.float()) for branch in output.features]
            # Copy them, because the backward pass needs the prototypes from before the update.
            prototypes = torch.split(self.prototypes.float().clone(), self.feature_sizes, dim=1)
            branches = list(zip(features, prototypes, strict=True))
            if updates_state(self):
                rows = [self._updated(images.detach(), memory[pid], pid) for images, memory in branches]
                write_rows(self.prototypes, pid, torch.cat(rows, dim=1))
            return torch.stack([self._contrast(*branch, pid) for branch in branches]).mean()

    def _contrast(self, features: Tensor, prototypes: Tensor, pid: Tensor) -> Tensor:
        has_prototype = prototypes.any(1)
        logits = (features @ prototypes.T / self.temperature).masked_fill(~has_prototype, LOWEST)
        return masked_mean(functional.cross_entropy(logits, pid, reduction="none"), has_prototype[pid])

    def _updated(self, features: Tensor, prototypes: Tensor, pid: Tensor) -> Tensor:
        """Return the updated (B, D) prototypes of the identities of (B, D) images."""
        same = pid[:, None] == pid[None, :]
        image = same.float() @ features / same.sum(1, keepdim=True)
        if self.mode == "hardest":
            cosine = (features * prototypes).sum(1)
            hardest = features[torch.where(same, cosine, torch.inf).argmin(1)]
            image = torch.where(prototypes.any(1, keepdim=True), hardest, image)
        return functional.normalize(self.momentum * prototypes + (1 - self.momentum) * image)
