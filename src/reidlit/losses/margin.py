"""Classification by cosines, in which the own class must win by a margin.

They read the cosines that `reidlit.models.classifier.CosineClassifier` puts into the logits.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.losses.cross_entropy import HasLogits

ROUNDING = 1e-3  # by which a cosine may pass one


class MarginSoftmax(nn.Module, ABC):
    """Cross entropy of scaled cosines, the mean over branches; each kind says what it makes of a cosine before that.

    Args:
        scale: of the logits; cosines themselves are too near to each other for a softmax.
        margin: how much harder it is made for the own class.
        label_smoothing: share of the target that is spread over all classes, 0 to 1.

    Raises:
        ValueError: if a number is out of its range, and in `forward`, if the logits are no cosines.
    """

    largest_margin: ClassVar[float]

    def __init__(self, scale: float, margin: float, label_smoothing: float) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise ValueError(f"scale={scale} must be positive and finite.")
        if not 0 <= margin <= self.largest_margin:
            raise ValueError(f"margin={margin} must lie in 0 to {self.largest_margin:.4g}.")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing={label_smoothing} must lie in 0 to 1.")
        self.scale = scale
        self.margin = margin
        self.label_smoothing = label_smoothing
        self.calls = 0

    def forward(self, output: HasLogits, pid: Tensor) -> Tensor:
        """Scalar loss of (B, C) cosines and (B,) labels, in fp32."""
        self._check(output)
        return torch.stack([self._branch(cosines.float(), pid[:, None]) for cosines in output.logits]).mean()

    @abstractmethod
    def own(self, cosine: Tensor) -> Tensor:
        """(B, 1) the cosines of the own classes, made harder."""

    def others(self, cosines: Tensor) -> Tensor:
        """(B, C) the cosines of all classes, as the other classes count."""
        return cosines

    def _branch(self, cosines: Tensor, pid: Tensor) -> Tensor:
        logits = self.others(cosines).scatter(1, pid, self.own(cosines.gather(1, pid)))
        return functional.cross_entropy(self.scale * logits, pid[:, 0], label_smoothing=self.label_smoothing)

    def _check(self, output: HasLogits) -> None:
        """Refuse what a linear classifier gives, on calls 1, 2, 4, 8, ...

        Reading a value waits for the device, so not on all; a fresh linear classifier gives small values, which pass at
        first and then grow, so not on the first alone.
        """
        self.calls += 1
        if self.calls & (self.calls - 1):
            return
        largest = max(float(cosines.detach().abs().amax()) for cosines in output.logits)
        if largest > 1 + ROUNDING:
            raise ValueError(
                f"{type(self).__name__} reads cosines, -1 to 1, but the logits reach {largest:.4g} in size: the model needs "
                "CosineClassifier. Set model/classifier=cosine."
            )


class ArcFace(MarginSoftmax):
    """The margin is added to the angle of the own class: cos(theta + margin).

    Source: Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019.
    Where theta + margin passes pi, from where on that cosine would rise again, it is cos(theta) - margin sin(margin)
    instead, as in the authors' own training code.

    Args:
        scale: of the logits.
        margin: in radians, 0 to pi / 2.
        label_smoothing: share of the target that is spread over all classes, 0 to 1.

    Raises:
        ValueError: if a number is out of its range, and in `forward`, if the logits are no cosines.
    """

    largest_margin = math.pi / 2

    def __init__(self, scale: float = 30.0, margin: float = 0.5, label_smoothing: float = 0.0) -> None:
        super().__init__(scale, margin, label_smoothing)

    def own(self, cosine: Tensor) -> Tensor:
        """(B, 1) -> cos(theta + margin)."""
        cos, sin = math.cos(self.margin), math.sin(self.margin)
        # A root has no finite gradient at zero, where theta is 0 or pi.
        sine = ((1 - cosine) * (1 + cosine)).clamp(min=1e-12).sqrt()
        return torch.where(cosine > -cos, cosine * cos - sine * sin, cosine - self.margin * sin)


class CosFace(MarginSoftmax):
    """The margin is subtracted from the cosine of the own class.

    Source: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018, with a scale of 64. The
    same as the AM-softmax of Wang, Cheng, Liu, Liu, "Additive Margin Softmax for Face Verification", IEEE SPL 2018, with
    a scale of 30.

    Args:
        scale: of the logits.
        margin: 0 to 2, the largest difference of two cosines.
        label_smoothing: share of the target that is spread over all classes, 0 to 1.

    Raises:
        ValueError: if a number is out of its range, and in `forward`, if the logits are no cosines.
    """

    largest_margin = 2.0

    def __init__(self, scale: float = 30.0, margin: float = 0.35, label_smoothing: float = 0.0) -> None:
        super().__init__(scale, margin, label_smoothing)

    def own(self, cosine: Tensor) -> Tensor:
        """(B, 1) -> cos(theta) - margin."""
        return cosine - self.margin


class CircleSoftmax(MarginSoftmax):
    """Each cosine counts the more, the farther it is from its optimum; the decision boundary is a circle.

    Source: Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020, its form for
    class labels. The optimum is 1 + margin for the own class and -margin for the others; the boundary is
    (1 - own)^2 + other^2 = 2 margin^2. The weights take no gradient, as in the paper's equation 10.

    Args:
        scale: of the logits.
        margin: radius of the circle over the root of 2, 0 to 1; smaller is stricter.
        label_smoothing: share of the target that is spread over all classes, 0 to 1.

    Raises:
        ValueError: if a number is out of its range, and in `forward`, if the logits are no cosines.
    """

    largest_margin = 1.0

    def __init__(self, scale: float = 256.0, margin: float = 0.25, label_smoothing: float = 0.0) -> None:
        super().__init__(scale, margin, label_smoothing)

    def own(self, cosine: Tensor) -> Tensor:
        """(B, 1) -> [1 + margin - s]+ (s - 1 + margin)."""
        return (1 + self.margin - cosine.detach()).relu() * (cosine - 1 + self.margin)

    def others(self, cosines: Tensor) -> Tensor:
        """(B, C) -> [s + margin]+ (s - margin)."""
        return (cosines.detach() + self.margin).relu() * (cosines - self.margin)
