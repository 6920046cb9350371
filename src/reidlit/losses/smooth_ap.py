"""Average precision, made smooth."""

import math

from torch import Tensor

from reidlit.losses.triplet import Comparison, without_itself


class SmoothAP(Comparison):
    """One minus the mean average precision in the batch, of ranks that count by sigmoids; the mean over branches.

    Source: Brown, Xie, Kalogeiton, Zisserman, "Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval", ECCV
    2020. Each image is a query for all others: it is not in its own list, as it is not in a gallery. Images without a
    positive are no queries, but are in the lists of others; without a query the loss is zero.

    Args:
        temperature: of the sigmoid of a difference of cosines; lower is nearer to the true rank, but a gradient reaches
            only pairs whose cosines differ by little more than it.

    Raises:
        ValueError: if the temperature is not positive.
    """

    def __init__(self, temperature: float = 0.01) -> None:
        super().__init__(normalize=True)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature={temperature} must be positive and finite.")
        self.temperature = temperature

    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """The mean over images that have a positive."""
        cosine, positive = features @ features.T, without_itself(same)
        query, hit = positive.nonzero(as_tuple=True)  # a row for each of the M pairs, not for each of the B * B
        above = ((cosine[query] - cosine[query, hit][:, None]) / self.temperature).sigmoid()  # (M, B)
        # By the sigmoid half of a hit would be above itself; it has rank 1 among the positives at least.
        others = positive[query].scatter(1, hit[:, None], value=False)
        rank = 1 + above.masked_fill(~others, 0).sum(1)
        wrong = above.masked_fill(same[query], 0).sum(1)
        hits, queries = positive.sum(1), positive.any(1).sum().clamp(min=1)
        # One minus the precision at each hit.
        return (wrong / (rank + wrong) / hits[query]).sum() / queries
