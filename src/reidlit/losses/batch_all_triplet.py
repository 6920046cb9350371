"""Triplet loss over all triplets of a batch."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from reidlit.losses.triplet import Comparison, check_margin, euclidean, exclude_self, hinge

MAX_TRIPLETS = 2**24  # held in memory at once; 64 MiB per tensor


class BatchAllTriplet(Comparison):
    """Triplet loss over all triplets of the batch.

    Each anchor a is compared with each of its positives p and each of its negatives n:

        loss(a, p, n) = max(0, d(a, p) - d(a, n) + margin)

    d is the Euclidean distance. The loss is the mean over triplets and branches, and zero if the batch has no triplets.
    Triplets are processed in chunks and recomputed in the backward pass, so memory does not grow with B^3.

    Source: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", arXiv 2017, where it
    is called "batch all" and, with `nonzero`, "batch all (non-zero)".

    Args:
        margin: Distance by which a negative must be farther away than a positive, 0 or more. None for the soft margin,
            which replaces max(0, x + margin) by ln(1 + e^x).
        nonzero: Whether to average only over triplets with a positive loss. As training progresses, most triplets reach
            zero and would dominate the mean.
        normalize: Whether to scale features to unit length first.

    Raises:
        ValueError: If the margin is negative or not finite.

    Example:
        >>> import torch
        >>> from reidlit.losses import BatchAllTriplet
        >>> from reidlit.models import ReIDOutput
        >>> features = torch.tensor([[0.0], [3.0], [4.0], [6.0]])
        >>> output = ReIDOutput(embedding=features, features=(features,), logits=())
        >>> loss = BatchAllTriplet(margin=0.3)(output, torch.tensor([0, 0, 1, 1]))
        >>> round(loss.item(), 4)  # mean of the positive losses 2.3, 1.3 and 0.3
        1.3
    """

    def __init__(self, margin: float | None = 0.3, nonzero: bool = True, normalize: bool = False) -> None:
        super().__init__(normalize)
        self.margin = check_margin(margin)
        self.nonzero = nonzero

    def compare(self, features: Tensor, same: Tensor) -> Tensor:
        """Return the mean over triplets; see `Comparison`."""
        distance, positive = euclidean(features), exclude_self(same)
        positives, negatives = distance.masked_fill(~positive, -torch.inf), distance.masked_fill(same, torch.inf)
        size = max(1, MAX_TRIPLETS // len(features) ** 2)
        chunks = [
            checkpoint(self._triplets, *rows, use_reentrant=False, preserve_rng_state=False)
            for rows in zip(torch.split(positives, size), torch.split(negatives, size), strict=True)
        ]
        total, num_nonzero = (torch.stack(values).sum() for values in zip(*chunks, strict=True))
        count = num_nonzero if self.nonzero else (positive.sum(1) * (~same).sum(1)).sum()
        return total / count.clamp(min=1)

    def _triplets(self, positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses and the number of nonzero losses of some anchors.

        Args:
            positives: (A, B) distances to positives, minus infinity elsewhere.
            negatives: (A, B) distances to negatives, infinity elsewhere.
        """
        losses = hinge(positives[:, :, None] - negatives[:, None, :], self.margin)
        return losses.sum(), losses.count_nonzero()
