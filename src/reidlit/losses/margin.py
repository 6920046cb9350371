"""Margin losses: cross entropy of scaled cosines, with a margin for the target class.

The logits must be the cosines that `reidlit.models.classifier.CosineClassifier` returns.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.losses.cross_entropy import HasLogits

ROUNDING = 1e-3  # amount by which rounding may push a cosine above 1


class MarginSoftmax(nn.Module, ABC):
    """Base class of margin losses.

    A subclass maps cosines to logits with `target_logit` and `other_logits`. The loss is the cross entropy of the
    scaled logits, averaged over branches.

    Args:
        scale: Factor of the logits, above 0. Cosines alone differ too little for a softmax.
        margin: Margin of the target class.
        label_smoothing: Fraction of the target that is spread evenly over all classes, between 0 and 1.

    Raises:
        ValueError: If an argument is out of range; in `forward`, if the logits are not cosines.
    """

    largest_margin: ClassVar[float]

    def __init__(self, scale: float, margin: float, label_smoothing: float) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise ValueError(f"scale={scale} is invalid: must be above 0 and finite.")
        if not 0 <= margin <= self.largest_margin:
            raise ValueError(f"margin={margin} is invalid: must be between 0 and {self.largest_margin:.4g}.")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing={label_smoothing} is invalid: must be between 0 and 1.")
        self.scale = scale
        self.margin = margin
        self.label_smoothing = label_smoothing
        self.calls = 0

    def forward(self, output: HasLogits, pid: Tensor) -> Tensor:
        """Return the scalar loss in fp32.

        Args:
            output: Model output with `logits`, a (B, C) tensor of cosines per branch.
            pid: (B,) labels.

        Raises:
            ValueError: If the logits are not cosines.
        """
        self._check_cosines(output)
        return torch.stack([self._branch(cosines.float(), pid[:, None]) for cosines in output.logits]).mean()

    @abstractmethod
    def target_logit(self, cosine: Tensor) -> Tensor:
        """Return the (B, 1) logits of the target classes, given their cosines."""

    def other_logits(self, cosines: Tensor) -> Tensor:
        """Return the (B, C) logits of the other classes, given the cosines of all classes."""
        return cosines

    def _branch(self, cosines: Tensor, pid: Tensor) -> Tensor:
        logits = self.other_logits(cosines).scatter(1, pid, self.target_logit(cosines.gather(1, pid)))
        return functional.cross_entropy(self.scale * logits, pid[:, 0], label_smoothing=self.label_smoothing)

    def _check_cosines(self, output: HasLogits) -> None:
        """Check on calls 1, 2, 4, 8, ... that logits are cosines.

        Checking every call would wait for the device each time. Checking only the first would miss linear classifiers,
        as their logits are small before training.
        """
        self.calls += 1
        if self.calls & (self.calls - 1):
            return
        largest = max(float(cosines.detach().abs().amax()) for cosines in output.logits)
        if largest > 1 + ROUNDING:
            raise ValueError(
                f"{type(self).__name__} requires cosines between -1 and 1, but the logits reach {largest:.4g}. "
                "Set model/classifier=cosine, so that the model uses CosineClassifier."
            )


class ArcFace(MarginSoftmax):
    """ArcFace: additive angular margin softmax.

    With the angle theta_c between the features and the weight vector of class c, and the target class y:

        logit_y = scale * cos(theta_y + margin)
        logit_c = scale * cos(theta_c), for c != y
        loss = cross_entropy(logits, y)

    Beyond theta_y + margin = pi, where the cosine would increase again, the target logit is scale * (cos(theta_y) -
    margin * sin(margin)), as in the authors' code. The loss is the mean over images and branches. The model must return
    cosines, as with `model/classifier=cosine`.

    Source: Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019.

    Args:
        scale: Factor of the logits, above 0.
        margin: Angular margin in radians, between 0 and pi / 2.
        label_smoothing: Fraction of the target that is spread evenly over all classes, between 0 and 1.

    Raises:
        ValueError: If an argument is out of range; in `forward`, if the logits are not cosines.

    Example:
        >>> import torch
        >>> from reidlit.losses import ArcFace
        >>> from reidlit.models import ReIDOutput
        >>> cosines = torch.tensor([[0.8, 0.1, -0.3]])
        >>> output = ReIDOutput(embedding=cosines, features=(), logits=(cosines,))
        >>> loss = ArcFace(scale=4.0, margin=0.5)(output, torch.tensor([0]))
        >>> round(loss.item(), 4)
        0.294
    """

    largest_margin = math.pi / 2

    def __init__(self, scale: float = 30.0, margin: float = 0.5, label_smoothing: float = 0.0) -> None:
        super().__init__(scale, margin, label_smoothing)

    def target_logit(self, cosine: Tensor) -> Tensor:
        """Return cos(theta + margin); see `MarginSoftmax`."""
        cos, sin = math.cos(self.margin), math.sin(self.margin)
        # The gradient of a square root is infinite at zero, where theta is 0 or pi.
        sine = ((1 - cosine) * (1 + cosine)).clamp(min=1e-12).sqrt()
        return torch.where(cosine > -cos, cosine * cos - sine * sin, cosine - self.margin * sin)


class CosFace(MarginSoftmax):
    """CosFace: additive cosine margin softmax, also known as AM-softmax.

    With the cosine s_c between the features and the weight vector of class c, and the target class y:

        logit_y = scale * (s_y - margin)
        logit_c = scale * s_c, for c != y
        loss = cross_entropy(logits, y)

    The loss is the mean over images and branches. The model must return cosines, as with `model/classifier=cosine`.

    Sources: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018, with a scale of 64;
    Wang, Cheng, Liu, Liu, "Additive Margin Softmax for Face Verification", IEEE SPL 2018, with a scale of 30.

    Args:
        scale: Factor of the logits, above 0.
        margin: Cosine margin, between 0 and 2.
        label_smoothing: Fraction of the target that is spread evenly over all classes, between 0 and 1.

    Raises:
        ValueError: If an argument is out of range; in `forward`, if the logits are not cosines.

    Example:
        >>> import torch
        >>> from reidlit.losses import CosFace
        >>> from reidlit.models import ReIDOutput
        >>> cosines = torch.tensor([[0.8, 0.1, -0.3]])
        >>> output = ReIDOutput(embedding=cosines, features=(), logits=(cosines,))
        >>> loss = CosFace(scale=4.0, margin=0.35)(output, torch.tensor([0]))
        >>> round(loss.item(), 4)
        0.2596
    """

    largest_margin = 2.0

    def __init__(self, scale: float = 30.0, margin: float = 0.35, label_smoothing: float = 0.0) -> None:
        super().__init__(scale, margin, label_smoothing)

    def target_logit(self, cosine: Tensor) -> Tensor:
        """Return cos(theta) - margin; see `MarginSoftmax`."""
        return cosine - self.margin


class CircleSoftmax(MarginSoftmax):
    """Circle loss on class labels.

    With the cosine s_c between the features and the weight vector of class c, and the target class y:

        logit_y = scale * max(0, 1 + margin - s_y) * (s_y - 1 + margin)
        logit_c = scale * max(0, s_c + margin) * (s_c - margin), for c != y
        loss = cross_entropy(logits, y)

    The weights max(0, ...) grow with the distance of a cosine from its optimum and get no gradient, as in equation 10
    of the paper. The decision boundary is the circle (1 - s_y)^2 + s_c^2 = 2 * margin^2. The loss is the mean over
    images and branches. The model must return cosines, as with `model/classifier=cosine`.

    Source: Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020, with
    class-level labels. `Circle` is its form with pair-wise labels.

    Args:
        scale: Factor of the logits, above 0.
        margin: Relaxation factor between 0 and 1; lower is stricter.
        label_smoothing: Fraction of the target that is spread evenly over all classes, between 0 and 1.

    Raises:
        ValueError: If an argument is out of range; in `forward`, if the logits are not cosines.

    Example:
        >>> import torch
        >>> from reidlit.losses import CircleSoftmax
        >>> from reidlit.models import ReIDOutput
        >>> cosines = torch.tensor([[0.8, 0.1, -0.3]])
        >>> output = ReIDOutput(embedding=cosines, features=(), logits=(cosines,))
        >>> loss = CircleSoftmax(scale=8.0, margin=0.25)(output, torch.tensor([0]))
        >>> round(loss.item(), 4)
        0.8688
    """

    largest_margin = 1.0

    def __init__(self, scale: float = 256.0, margin: float = 0.25, label_smoothing: float = 0.0) -> None:
        super().__init__(scale, margin, label_smoothing)

    def target_logit(self, cosine: Tensor) -> Tensor:
        """Return max(0, 1 + margin - s) * (s - 1 + margin); see `MarginSoftmax`."""
        return (1 + self.margin - cosine.detach()).relu() * (cosine - 1 + self.margin)

    def other_logits(self, cosines: Tensor) -> Tensor:
        """Return max(0, s + margin) * (s - margin); see `MarginSoftmax`."""
        return (cosines.detach() + self.margin).relu() * (cosines - self.margin)
