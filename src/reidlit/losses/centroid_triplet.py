"""Triplet loss on the centroids of identities."""

from torch import Tensor, inf

from reidlit.losses.triplet import Comparison, check_margin, euclidean, exclude_self, hinge, masked_mean


class CentroidTriplet(Comparison):
    """Centroid triplet loss.

    Each anchor a is compared with the centroid c_p of its own identity and the nearest centroid c_n of another
    identity:

        loss(a) = max(0, d(a, c_p) - min_n d(a, c_n) + margin)

    d is the Euclidean distance. A centroid is the mean of the features of an identity in the batch; c_p excludes the
    anchor. The loss is the mean over branches and over anchors that have a positive. It is zero if the batch has a
    single identity.

    Source: Wieczorek, Rychalska, Dabrowski, "On the Unreasonable Effectiveness of Centroids in Image Retrieval", ICONIP
    2021. The paper's equation has squared distances; the authors' code does not square them, and neither does the
    default here.

    Args:
        margin: Distance by which other centroids must be farther away than the own centroid, 0 or more. None for the
            soft margin, which replaces max(0, x + margin) by ln(1 + e^x).
        squared: Whether to use squared distances.
        normalize: Whether to scale features to unit length first.

    Raises:
        ValueError: If the margin is negative or not finite.

    Example:
        >>> import torch
        >>> from reidlit.losses import CentroidTriplet
        >>> from reidlit.models import ReIDOutput
        >>> features = torch.tensor([[0.0], [3.0], [4.0], [6.0]])
        >>> output = ReIDOutput(embedding=features, features=(features,), logits=())
        >>> loss = CentroidTriplet(margin=0.5)(output, torch.tensor([0, 0, 1, 1]))
        >>> round(loss.item(), 4)
        0.375
    """

    def __init__(self, margin: float | None = 0.5, squared: bool = False, normalize: bool = False) -> None:
        super().__init__(normalize)
        self.margin = check_margin(margin)
        self.squared = squared

    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """Return the mean over anchors that have a positive; see `Comparison`."""
        positive, power = exclude_self(same), 2 if self.squared else 1
        count = positive.sum(1)
        positive_sum = positive.to(features.dtype) @ features
        difference = features - positive_sum / count.clamp(min=1)[:, None]
        positive_distance = difference.pow(2).sum(1).clamp(min=1e-12).sqrt() ** power
        # Each centroid is repeated for every image of its identity, which does not change the minimum.
        centroids = (positive_sum + features) / (count + 1)[:, None]
        negative_distance = (euclidean(features, centroids) ** power).masked_fill(same, inf).amin(1)
        return masked_mean(hinge(positive_distance - negative_distance, self.margin), count > 0)
