"""Triplet loss over weighted means of all positives and of all negatives."""

from torch import Tensor
from torch.nn import functional

from reidlit.losses.triplet import LOWEST, Comparison, euclidean, mean_over, without_itself


class WeightedTriplet(Comparison):
    """For each anchor its far positives against its near negatives, by weights instead of a choice; the mean over branches.

    Source: Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021, the weighted
    regularised triplet of AGW. The weights are a softmax of the distances over the positives, and of the negative
    distances over the negatives; of the two weighted means the loss is the soft margin ln(1 + e^(positive - negative)), so
    there is no margin to tune. Distances are Euclidean. An anchor is no positive of itself; those without a positive or a
    negative are left out, and if all are, the loss is zero.

    Args:
        normalize: whether to scale features to length one first; else they are taken as they are.
    """

    def __init__(self, normalize: bool = False) -> None:
        super().__init__(normalize)

    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """The mean over anchors that have both."""
        distance, positive = euclidean(features), without_itself(same)
        far = distance.masked_fill(~positive, LOWEST).softmax(1)
        near = (-distance).masked_fill(same, LOWEST).softmax(1)
        difference = ((far - near) * distance).sum(1)
        return mean_over(positive.any(1) & ~same.all(1), functional.softplus(difference))
