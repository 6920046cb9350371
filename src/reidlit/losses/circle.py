"""Circle loss on pairs of images."""

import math

from torch import Tensor
from torch.nn import functional

from reidlit.losses.triplet import LOWEST, Comparison, mean_over, without_itself


class Circle(Comparison):
    """Each cosine of a pair counts the more, the farther it is from its optimum; the mean over branches.

    Source: Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020, its form for
    labels of pairs. The optimum is 1 + margin for positives and -margin for negatives. The weights take no gradient, as in
    the paper's equation 10. Anchors without a positive or a negative are left out; if all are, the loss is zero.

    Args:
        scale: of the weighted cosines.
        margin: radius of the circle over the root of 2, 0 to 1; smaller is stricter.

    Raises:
        ValueError: if a number is out of its range.
    """

    def __init__(self, scale: float = 128.0, margin: float = 0.25) -> None:
        super().__init__(normalize=True)
        if not 0 < scale < math.inf:
            raise ValueError(f"scale={scale} must be positive and finite.")
        if not 0 <= margin <= 1:
            raise ValueError(f"margin={margin} must lie in 0 to 1.")
        self.scale = scale
        self.margin = margin

    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """The mean over anchors that have both."""
        cosine, positive = features @ features.T, without_itself(same)
        too_far = (1 + self.margin - cosine.detach()).relu() * (1 - self.margin - cosine)
        too_near = (cosine.detach() + self.margin).relu() * (cosine - self.margin)
        # ln(1 + the product of two sums of exponentials), which would overflow.
        far = (self.scale * too_far).masked_fill(~positive, LOWEST).logsumexp(1)
        near = (self.scale * too_near).masked_fill(same, LOWEST).logsumexp(1)
        return mean_over(positive.any(1) & ~same.all(1), functional.softplus(far + near))
