"""Triplet loss over weighted means of all positives and of all negatives."""

from torch import Tensor
from torch.nn import functional

from reidlit.losses.triplet import LOWEST, Comparison, euclidean, exclude_self, masked_mean


class WeightedTriplet(Comparison):
    """Weighted regularization triplet loss, as used by AGW.

    Each anchor is compared with all its positives p and negatives n, weighted by their Euclidean distances d:

        loss = ln(1 + exp(sum_p w_p * d_p - sum_n w_n * d_n))
        w_p = softmax_p(d_p)
        w_n = softmax_n(-d_n)

    Far positives and near negatives get the largest weights, and there is no margin to tune. The loss is the mean over
    branches and over anchors that have a positive and a negative; it is zero if there are none.

    Source: Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021.

    Args:
        normalize: Whether to scale features to unit length first.

    Example:
        >>> import torch
        >>> from reidlit.losses import WeightedTriplet
        >>> from reidlit.models import ReIDOutput
        >>> features = torch.tensor([[0.0], [2.0], [10.0], [12.0]])
        >>> output = ReIDOutput(embedding=features, features=(features,), logits=())
        >>> loss = WeightedTriplet()(output, torch.tensor([0, 0, 1, 1]))
        >>> round(loss.item(), 4)
        0.0011
    """

    def __init__(self, normalize: bool = False) -> None:
        super().__init__(normalize)

    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """Return the mean over anchors that have a positive and a negative; see `Comparison`."""
        distance, positive = euclidean(features), exclude_self(same)
        positive_weight = distance.masked_fill(~positive, LOWEST).softmax(1)
        negative_weight = (-distance).masked_fill(same, LOWEST).softmax(1)
        difference = ((positive_weight - negative_weight) * distance).sum(1)
        return masked_mean(functional.softplus(difference), positive.any(1) & ~same.all(1))
