"""Supervised contrastive loss."""

import math

from torch import Tensor

from reidlit.losses.triplet import LOWEST, Comparison, mean_over, without_itself


class SupCon(Comparison):
    """Cross entropy of picking an anchor's positives among all other images of the batch; the mean over branches.

    Source: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, its form L_out: the mean over positives is
    outside of the logarithm. Several views of an image are images of one identity like others. Anchors without a positive
    are left out; if all are, the loss is zero.

    Args:
        temperature: by which cosines are divided before the softmax; lower looks harder at near negatives.

    Raises:
        ValueError: if the temperature is not positive.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__(normalize=True)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature={temperature} must be positive and finite.")
        self.temperature = temperature

    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """The mean over anchors that have a positive."""
        positive = without_itself(same)
        logits = features @ features.T / self.temperature
        log_probability = logits.masked_fill(same & ~positive, LOWEST).log_softmax(1)
        count = positive.sum(1)
        losses = -log_probability.masked_fill(~positive, 0).sum(1) / count.clamp(min=1)
        return mean_over(count > 0, losses)
