"""Triplet loss on the centroids of identities."""

from torch import Tensor, inf

from reidlit.losses.triplet import Comparison, checked_margin, euclidean, hinge, mean_over, without_itself


class CentroidTriplet(Comparison):
    """Each anchor between the centroid of its identity and the nearest of the others; the mean over branches.

    Source: Wieczorek, Rychalska, Dabrowski, "On the Unreasonable Effectiveness of Centroids in Image Retrieval", ICONIP
    2021. A centroid is the mean over the images in the batch; that of the anchor's own identity leaves the anchor out.
    Distances are Euclidean, as the authors train; their equation has `squared` ones. Anchors that are alone of their
    identity are left out, but are the centroids of others; with a single identity the loss is zero.

    Args:
        margin: by how much the other centroid must be farther than the own; `None` for the soft margin ln(1 + e^x).
        squared: whether to compare squares of distances.
        normalize: whether to scale features to length one first; else they are taken as they are.

    Raises:
        ValueError: if the margin is negative or not finite.
    """

    def __init__(self, margin: float | None = 0.5, squared: bool = False, normalize: bool = False) -> None:
        super().__init__(normalize)
        self.margin = checked_margin(margin)
        self.squared = squared

    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """The mean over anchors that have a positive."""
        positive, power = without_itself(same), 2 if self.squared else 1
        count = positive.sum(1)
        rest = positive.to(features.dtype) @ features
        apart = features - rest / count.clamp(min=1)[:, None]
        own = apart.pow(2).sum(1).clamp(min=1e-12).sqrt() ** power
        # The centroid of an identity once for each of its images, which leaves the nearest as it is.
        centroids = (rest + features) / (count + 1)[:, None]
        nearest = (euclidean(features, centroids) ** power).masked_fill(same, inf).amin(1)
        return mean_over(count > 0, hinge(own - nearest, self.margin))
