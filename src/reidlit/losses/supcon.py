"""Supervised contrastive loss."""

import math

from torch import Tensor

from reidlit.losses.triplet import LOWEST, Comparison, exclude_self, masked_mean


class SupCon(Comparison):
    """Supervised contrastive loss.

    Each anchor a with positives P is contrasted with all other images k of the batch by cosine similarity s:

        loss(a) = -mean_(p in P) ln(exp(s_p / temperature) / sum_k exp(s_k / temperature))

    The loss is the mean over branches and over anchors that have a positive. It is zero if there are none.

    Source: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, in the form L_out, with the mean over
    positives outside the logarithm. Several views of an image count as images of one identity.

    Args:
        temperature: Divisor of the similarities, above 0. A lower value emphasizes near negatives.

    Raises:
        ValueError: If the temperature is not positive and finite.

    Example:
        >>> import torch
        >>> from reidlit.losses import SupCon
        >>> from reidlit.models import ReIDOutput
        >>> features = torch.eye(3)[[0, 0, 1, 1]]  # unit vectors: all positives coincide, all negatives are orthogonal
        >>> output = ReIDOutput(embedding=features, features=(features,), logits=())
        >>> loss = SupCon(temperature=1.0)(output, torch.tensor([0, 0, 1, 1]))
        >>> round(loss.item(), 4)  # -ln(e / (e + 2))
        0.5514
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__(normalize=True)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature={temperature} is invalid: must be above 0 and finite.")
        self.temperature = temperature

    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """Return the mean over anchors that have a positive; see `Comparison`."""
        positive = exclude_self(same)
        logits = features @ features.T / self.temperature
        log_probability = logits.masked_fill(same & ~positive, LOWEST).log_softmax(1)
        count = positive.sum(1)
        losses = -log_probability.masked_fill(~positive, 0).sum(1) / count.clamp(min=1)
        return masked_mean(losses, count > 0)
