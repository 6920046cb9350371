"""Smooth approximation of average precision."""

import math

from torch import Tensor

from reidlit.losses.triplet import Comparison, exclude_self


class SmoothAP(Comparison):
    """Smooth-AP loss: one minus a differentiable mean average precision.

    Each image is a query that ranks all other images of the batch by cosine similarity s. With its positives P and
    negatives N, and g(x) = sigmoid(x / temperature) in place of the step function:

        rank_P(i) = 1 + sum_(j in P, j != i) g(s_j - s_i)
        rank(i) = rank_P(i) + sum_(j in N) g(s_j - s_i)
        loss = 1 - mean_(i in P) rank_P(i) / rank(i)

    The loss is the mean over branches and over queries that have a positive. It is zero if there are none.

    Source: Brown, Xie, Kalogeiton, Zisserman, "Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval", ECCV
    2020. As in a gallery, the ranked list excludes the query.

    Args:
        temperature: Temperature of the sigmoid, above 0. A lower value approximates ranks better, but passes a gradient
            only to pairs whose similarities differ by a few times the temperature.

    Raises:
        ValueError: If the temperature is not positive and finite.

    Example:
        >>> import torch
        >>> from reidlit.losses import SmoothAP
        >>> from reidlit.models import ReIDOutput
        >>> features = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
        >>> output = ReIDOutput(embedding=features, features=(features,), logits=())
        >>> loss = SmoothAP(temperature=0.01)(output, torch.tensor([0, 0, 1, 1]))
        >>> round(loss.item(), 4)  # AP is 1 for the outer images and 1/2 for the inner ones
        0.25
    """

    def __init__(self, temperature: float = 0.01) -> None:
        super().__init__(normalize=True)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature={temperature} is invalid: must be above 0 and finite.")
        self.temperature = temperature

    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """Return the mean over images that have a positive; see `Comparison`."""
        cosine, positive = features @ features.T, exclude_self(same)
        query, hit = positive.nonzero(as_tuple=True)  # the M positive pairs, which need less memory than all B * B
        above = ((cosine[query] - cosine[query, hit][:, None]) / self.temperature).sigmoid()  # (M, B)
        # The sigmoid would count half of a hit as ranked above itself. Its rank among positives is at least 1.
        other_positives = positive[query].scatter(1, hit[:, None], value=False)
        rank = 1 + above.masked_fill(~other_positives, 0).sum(1)
        incorrect = above.masked_fill(same[query], 0).sum(1)
        num_hits, num_queries = positive.sum(1), positive.any(1).sum().clamp(min=1)
        # The first factor is one minus the precision at each hit.
        return (incorrect / (rank + incorrect) / num_hits[query]).sum() / num_queries
