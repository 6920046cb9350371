"""Triplet loss over all triplets of the batch."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from reidlit.losses.triplet import Comparison, checked_margin, euclidean, hinge, without_itself

TRIPLETS = 2**24  # that exist at a time; 64 MiB a tensor


class BatchAllTriplet(Comparison):
    """Every anchor with each of its positives and each of its negatives; the mean over branches.

    Source: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", arXiv 2017, there "batch
    all" and, over the triplets that are not zero, "batch all, non-zero". Distances are Euclidean. Without any triplet the
    loss is zero. Memory does not grow with the cube of the batch: the backward pass computes the triplets anew.

    Args:
        margin: by how much a negative must be farther than a positive; `None` for the soft margin ln(1 + e^x), which
            leaves no triplet at zero.
        nonzero: whether the mean is over the triplets whose loss is not zero; as training goes on, the many that are
            would wash the rest out. Else over all.
        normalize: whether to scale features to length one first; else they are taken as they are.

    Raises:
        ValueError: if the margin is negative or not finite.
    """

    def __init__(self, margin: float | None = 0.3, nonzero: bool = True, normalize: bool = False) -> None:
        super().__init__(normalize)
        self.margin = checked_margin(margin)
        self.nonzero = nonzero

    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """The mean over the triplets."""
        distance, positive = euclidean(features), without_itself(same)
        positives, negatives = distance.masked_fill(~positive, -torch.inf), distance.masked_fill(same, torch.inf)
        size = max(1, TRIPLETS // len(features) ** 2)
        parts = [
            checkpoint(self._triplets, *rows, use_reentrant=False, preserve_rng_state=False)
            for rows in zip(torch.split(positives, size), torch.split(negatives, size), strict=True)
        ]
        totals, counts = (torch.stack(part).sum() for part in zip(*parts, strict=True))
        count = counts if self.nonzero else (positive.sum(1) * (~same).sum(1)).sum()
        return totals / count.clamp(min=1)

    def _triplets(self, positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """(A, B) distances, infinite where there is no such pair -> the sum of the losses, and how many are not zero."""
        losses = hinge(positives[:, :, None] - negatives[:, None, :], self.margin)
        return losses.sum(), losses.count_nonzero()
