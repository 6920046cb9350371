"""Evaluation of attribute recognition as a torchmetrics metric."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from reidlit.metrics._ranking.types import Floats, Integers


class PerAttributeScores(NamedTuple):
    """Scores of each attribute over the images with a label for it, as fractions.

    Attributes:
        mA: (A,) mean of the recall of positives and the recall of negatives; NaN unless both occur.
        accuracy: (A,) fraction of correct predictions; NaN without labels.
        precision: (A,) fraction of predicted images that are positive; 0 if there are positives but no predictions, NaN
            if there are neither.
        recall: (A,) fraction of positive images that are predicted; NaN without positives.
        f1: (A,) harmonic mean of precision and recall; NaN without positives and predictions.
        num_positive: (A,) number of positive images.
        num_known: (A,) number of labeled images.

    Example:
        >>> import torch
        >>> from reidlit.metrics.attribute_metric import AttributeMetric
        >>> metric = AttributeMetric(num_attributes=2)
        >>> metric.update(torch.tensor([[0.9, 0.2], [0.3, 0.8]]), torch.tensor([[1, 0], [1, -1]]))
        >>> metric.compute().each.recall
        array([0.5, nan])
    """

    mA: Floats  # noqa: N815 - the usual name in the literature
    accuracy: Floats
    precision: Floats
    recall: Floats
    f1: Floats
    num_positive: Integers
    num_known: Integers


class AttributeScores(NamedTuple):
    """Scores of attribute recognition, as fractions from 0 to 1.

    Attributes:
        mA: Mean accuracy, averaged over the attributes for which it is defined; NaN if there are none.
        accuracy: Mean over images of the intersection over union of true and predicted attributes.
        precision: Mean over images of the fraction of predicted attributes that are true.
        recall: Mean over images of the fraction of true attributes that are predicted.
        f1: Harmonic mean of `precision` and `recall`.
        num_images: Number of images with at least one labeled attribute.
        each: Scores of each attribute.

    Example:
        >>> import torch
        >>> from reidlit.metrics.attribute_metric import AttributeMetric
        >>> metric = AttributeMetric(num_attributes=2)
        >>> metric.update(torch.tensor([[0.9, 0.2], [0.3, 0.8]]), torch.tensor([[1, 0], [1, 1]]))
        >>> metric.compute().by_attribute(["hat", "bag"])["attributes/hat/recall"]
        0.5
    """

    # A named tuple rather than a frozen dataclass, because torchmetrics rebuilds the result of `compute`.

    mA: float  # noqa: N815 - the usual name in the literature
    accuracy: float
    precision: float
    recall: float
    f1: float
    num_images: int
    each: PerAttributeScores

    def as_dict(self) -> dict[str, float]:
        """Return the averaged scores by name, as they are logged."""
        return {name: getattr(self, name) for name in ("mA", "accuracy", "precision", "recall", "f1")}

    def by_attribute(self, names: Sequence[str]) -> dict[str, float]:
        """Return the scores of each attribute by name, such as `attributes/<name>/mA`.

        Args:
            names: Name of each of the A attributes.
        """
        columns = self.each._asdict().items()
        return {
            f"attributes/{name}/{column}": values[index].item()
            for index, name in enumerate(names)
            for column, values in columns
        }


class AttributeMetric(Metric):
    """torchmetrics metric with label-based mA and instance-based accuracy, precision, recall and F1.

    Source: Li, Zhang, Chen, Huang, "A Richly Annotated Pedestrian Dataset for Person Retrieval in Real Surveillance
    Scenarios", TIP 2019. As there, F1 is computed from the mean precision and the mean recall.

    Unknown labels are ignored. Divisions by zero are resolved as follows:

    - An image without true and without predicted attributes has accuracy, precision and recall 1.
    - Any other precision, recall or F1 with a zero denominator is 0.
    - An attribute that all images have, or none, does not enter mA.

    The state consists of counts, so scores over several processes are identical to those of a single process.

    Args:
        num_attributes: Number of attributes, A.
        threshold: Probability from which an attribute counts as predicted, between 0 and 1.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from reidlit.metrics.attribute_metric import AttributeMetric
        >>> metric = AttributeMetric(num_attributes=2)
        >>> probability = torch.tensor([[0.9, 0.2], [0.3, 0.8]])
        >>> metric.update(probability, attributes=torch.tensor([[1, 0], [0, 0]]))
        >>> metric.compute().as_dict()
        {'mA': 1.0, 'accuracy': 0.5, 'precision': 0.5, 'recall': 0.5, 'f1': 0.5}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    true_positive: Tensor
    predicted: Tensor
    positive: Tensor
    known: Tensor
    image_counts: Tensor

    def __init__(self, num_attributes: int, threshold: float = 0.5) -> None:
        super().__init__()
        if num_attributes < 1:
            raise ValueError(f"num_attributes={num_attributes} is invalid: must be at least 1.")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold={threshold} is invalid: must be between 0 and 1.")
        self.num_attributes, self.threshold = num_attributes, threshold
        for name in ("true_positive", "predicted", "positive", "known"):
            self.add_state(name, torch.zeros(num_attributes, dtype=torch.int64), dist_reduce_fx="sum")
        # Number of images for each pair (true positives, denominator). The denominators are the number of predicted
        # attributes for precision, of positive ones for recall, and of their union for accuracy.
        size = num_attributes + 1
        self.add_state("image_counts", torch.zeros(3, size * size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probability: Tensor, attributes: Tensor) -> None:
        """Add a batch.

        Args:
            probability: (B, A) probabilities from 0 to 1.
            attributes: (B, A) labels: 1 for positive, 0 for negative, and a negative number for unknown.

        Raises:
            ValueError: If the shapes are invalid, or a probability is NaN or outside the range from 0 to 1.
        """
        if probability.shape != attributes.shape or probability.shape[1:] != (self.num_attributes,):
            raise ValueError(
                f"probability has shape {tuple(probability.shape)} and attributes has shape {tuple(attributes.shape)}: "
                f"both must be (B, {self.num_attributes})."
            )
        if not ((probability >= 0) & (probability <= 1)).all():
            raise ValueError(
                "probability contains NaN or a value outside the range from 0 to 1. Pass probabilities, not logits, "
                "and check for diverged weights."
            )
        known = attributes >= 0
        positive = attributes > 0
        predicted = (probability >= self.threshold) & known
        true_positive = predicted & positive
        self.true_positive = self.true_positive + true_positive.sum(0)
        self.predicted = self.predicted + predicted.sum(0)
        self.positive = self.positive + positive.sum(0)
        self.known = self.known + known.sum(0)
        rows = known.any(1)
        num_correct = true_positive.sum(1)[rows]
        size = self.num_attributes + 1
        counts = [
            torch.bincount(num_correct * size + denominator.sum(1)[rows], minlength=size * size)
            for denominator in (predicted, positive, predicted | positive)
        ]
        self.image_counts = self.image_counts + torch.stack(counts)

    def compute(self) -> AttributeScores:
        """Compute the scores over all images of all processes since the last reset."""
        size = self.num_attributes + 1
        image_counts = self.image_counts.cpu().numpy().reshape(3, size, size)
        total = int(image_counts[0].sum())
        empty = int(image_counts[2, 0, 0])  # images with neither true nor predicted attributes
        ratio = np.arange(size)[:, None] / np.arange(size).clip(min=1)
        precision, recall, accuracy = (
            float(((counts * ratio)[:, 1:].sum() + empty) / total) if total else float("nan") for counts in image_counts
        )
        each = self._each()
        balanced = each.mA[np.isfinite(each.mA)]
        return AttributeScores(
            mA=float(balanced.mean()) if balanced.size else float("nan"),
            accuracy=accuracy,
            precision=precision,
            recall=recall,
            f1=2 * precision * recall / (precision + recall) if precision + recall else 0.0,
            num_images=total,
            each=each,
        )

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Update without computing batch scores, which are not meaningful."""
        self.update(*args, **kwargs)

    def _each(self) -> PerAttributeScores:
        true_positive, predicted, positive, known = (
            state.cpu().numpy() for state in (self.true_positive, self.predicted, self.positive, self.known)
        )
        negative = known - positive
        true_negative = negative - (predicted - true_positive)
        recall = _ratio(true_positive, positive)
        precision = np.where((predicted == 0) & (positive > 0), 0.0, _ratio(true_positive, predicted))
        return PerAttributeScores(
            mA=(recall + _ratio(true_negative, negative)) / 2,
            accuracy=_ratio(true_positive + true_negative, known),
            precision=precision,
            recall=recall,
            f1=_ratio(2 * true_positive, predicted + positive),
            num_positive=positive,
            num_known=known,
        )


def _ratio(numerator: Integers, denominator: Integers) -> Floats:
    """Divide; return NaN where the denominator is 0."""
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), np.nan)
