"""Circle loss on pairs of images."""

import math

from torch import Tensor
from torch.nn import functional

from reidlit.losses.triplet import LOWEST, Comparison, exclude_self, masked_mean


class Circle(Comparison):
    """Circle loss on pairs of images.

    For an anchor with cosine similarities s_p to its positives and s_n to its negatives:

        loss = ln(1 + sum_n exp(scale * w_n * (s_n - margin)) * sum_p exp(-scale * w_p * (s_p - 1 + margin)))
        w_p = max(0, 1 + margin - s_p)
        w_n = max(0, s_n + margin)

    The weights w grow with the distance of a similarity from its optimum and get no gradient, as in equation 10 of the
    paper. The loss is the mean over branches and over anchors that have a positive and a negative; it is zero if there
    are none.

    Source: Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020, with pair-wise
    labels. `CircleSoftmax` is its form with class labels.

    Args:
        scale: Scale of the weighted similarities, above 0.
        margin: Relaxation factor between 0 and 1; lower is stricter. The decision boundary is a circle with radius
            sqrt(2) * margin.

    Raises:
        ValueError: If scale or margin is out of range.

    Example:
        >>> import torch
        >>> from reidlit.losses import Circle
        >>> from reidlit.models import ReIDOutput
        >>> features = torch.eye(3)[[0, 0, 1, 1]]  # unit vectors: all positives coincide, all negatives are orthogonal
        >>> output = ReIDOutput(embedding=features, features=(features,), logits=())
        >>> loss = Circle(scale=1.0, margin=0.25)(output, torch.tensor([0, 0, 1, 1]))
        >>> round(loss.item(), 4)
        1.017
    """

    def __init__(self, scale: float = 128.0, margin: float = 0.25) -> None:
        super().__init__(normalize=True)
        if not 0 < scale < math.inf:
            raise ValueError(f"scale={scale} is invalid: must be above 0 and finite.")
        if not 0 <= margin <= 1:
            raise ValueError(f"margin={margin} is invalid: must be between 0 and 1.")
        self.scale = scale
        self.margin = margin

    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """Return the mean over anchors that have a positive and a negative; see `Comparison`."""
        cosine, positive = features @ features.T, exclude_self(same)
        positive_term = (1 + self.margin - cosine.detach()).relu() * (1 - self.margin - cosine)
        negative_term = (cosine.detach() + self.margin).relu() * (cosine - self.margin)
        # The sums of exponentials would overflow, so add their logarithms.
        positives = (self.scale * positive_term).masked_fill(~positive, LOWEST).logsumexp(1)
        negatives = (self.scale * negative_term).masked_fill(same, LOWEST).logsumexp(1)
        return masked_mean(functional.softplus(positives + negatives), positive.any(1) & ~same.all(1))
