"""Contrast of images with a memory of prototypes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.losses.center import moves, write
from reidlit.losses.triplet import LOWEST, HasFeatures, mean_over

MODES = ("mean", "hardest")


class PrototypeMemory(nn.Module):
    """Cross entropy of picking an image's identity by the cosines to a prototype of each; the mean over branches.

    Source: Dai, Wang, Yuan, Zhu, Tan, "Cluster Contrast for Unsupervised Person Re-Identification", ACCV 2022, with the
    training identities for clusters.

    Prototypes are no parameters: in training, after the loss is computed, that of each identity in the batch becomes
    momentum * prototype + (1 - momentum) * image, scaled to length one, where the image is one vector for all that the
    batch has of the identity. They are in the checkpoints. Until its first batch an identity has no prototype: it is
    left out of the softmax, and its images are left out of the loss, which is zero if all are.

    Args:
        num_classes: C, the training identities.
        feature_sizes: D_i, the size of each branch's features.
        temperature: by which cosines are divided before the softmax; lower looks harder at near identities.
        momentum: share of a prototype that a batch leaves, 0 or more and below 1.
        mode: what stands for the images of an identity: `mean`, of their unit vectors, or `hardest`, the one whose
            cosine to the prototype is the lowest. A new prototype is a mean.

    Raises:
        ValueError: if an option is out of its range.
    """

    compares = True  # not images with each other, but only those of all devices move the prototypes alike on each

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
            raise ValueError(f"temperature={temperature} must be positive and finite.")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum} must be 0 or more and below 1.")
        if mode not in MODES:
            raise ValueError(f"mode={mode!r} is unknown; choose one of {', '.join(MODES)}.")
        self.feature_sizes = list(feature_sizes)
        self.temperature = temperature
        self.momentum = momentum
        self.mode = mode
        self.prototypes: Tensor  # of all branches side by side; zero where there is none yet
        self.register_buffer("prototypes", torch.zeros(num_classes, sum(feature_sizes)))

    def forward(self, output: HasFeatures, pid: Tensor) -> Tensor:
        """Scalar loss of (B, D_i) features and (B,) labels, in fp32."""
        with torch.autocast(pid.device.type, enabled=False):
            features = [functional.normalize(branch.float()) for branch in output.features]
            # A copy, since the backward pass needs them as they are now.
            prototypes = torch.split(self.prototypes.float().clone(), self.feature_sizes, dim=1)
            branches = list(zip(features, prototypes, strict=True))
            if moves(self):
                rows = [self._moved(own.detach(), memory[pid], pid) for own, memory in branches]
                write(self.prototypes, pid, torch.cat(rows, dim=1))
            return torch.stack([self._contrast(*branch, pid) for branch in branches]).mean()

    def _contrast(self, features: Tensor, prototypes: Tensor, pid: Tensor) -> Tensor:
        known = prototypes.any(1)
        logits = (features @ prototypes.T / self.temperature).masked_fill(~known, LOWEST)
        return mean_over(known[pid], functional.cross_entropy(logits, pid, reduction="none"))

    def _moved(self, features: Tensor, prototypes: Tensor, pid: Tensor) -> Tensor:
        """(B, D) images and the prototypes of their identities -> (B, D) the new ones."""
        same = pid[:, None] == pid[None, :]
        image = same.float() @ features / same.sum(1, keepdim=True)
        if self.mode == "hardest":
            cosine = (features * prototypes).sum(1)
            hardest = features[torch.where(same, cosine, torch.inf).argmin(1)]
            image = torch.where(prototypes.any(1, keepdim=True), hardest, image)
        return functional.normalize(self.momentum * prototypes + (1 - self.momentum) * image)
