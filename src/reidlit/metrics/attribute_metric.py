"""Scores of attribute recognition as a torchmetrics metric."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from reidlit.metrics._ranking.types import Floats, Integers


class PerAttributeScores(NamedTuple):
    """Scores of each attribute over the images where it is known; NaN where the images cannot tell.

    Attributes:
        mA: (A,) mean of the recall of positives and of negatives; NaN unless both are there.
        accuracy: (A,) share of right decisions.
        precision: (A,) 0 where nothing is found of what is there; NaN where neither.
        recall: (A,) NaN without positives.
        f1: (A,) NaN where nothing is there and nothing is found.
        num_positive: (A,) how many images have it.
        num_known: (A,) of how many images it is known.
    """

    mA: Floats  # noqa: N815 - the field's name
    accuracy: Floats
    precision: Floats
    recall: Floats
    f1: Floats
    num_positive: Integers
    num_known: Integers


class AttributeScores(NamedTuple):
    """What an evaluation found, in fractions.

    A named tuple and no frozen dataclass, because torchmetrics rebuilds what a metric's `compute` returns.

    Attributes:
        mA: Mean over the attributes that have one; NaN if none has.
        accuracy: Mean over images of what is common to truth and prediction over what is in either.
        precision: Mean over images of the share of predicted attributes that are true.
        recall: Mean over images of the share of true attributes that are predicted.
        f1: Harmonic mean of precision and recall.
        num_images: Images of which an attribute is known, which the means are over.
        each: Those of each attribute.
    """

    mA: float  # noqa: N815 - the field's name
    accuracy: float
    precision: float
    recall: float
    f1: float
    num_images: int
    each: PerAttributeScores

    def as_dict(self) -> dict[str, float]:
        """The figures that are logged."""
        return {name: getattr(self, name) for name in ("mA", "accuracy", "precision", "recall", "f1")}

    def by_attribute(self, names: Sequence[str]) -> dict[str, float]:
        """The scores of each attribute, as `attributes/<name>/mA` and so on."""
        columns = self.each._asdict().items()
        return {
            f"attributes/{name}/{column}": values[place].item()
            for place, name in enumerate(names)
            for column, values in columns
        }


class AttributeMetric(Metric):
    """Label-based mA, and instance-based accuracy, precision, recall and F1.

    Source: Li, Zhang, Chen, Huang, "A Richly Annotated Pedestrian Dataset for Person Retrieval in Real Surveillance
    Scenarios", TIP 2019; its F1 is that of the mean precision and the mean recall.

    What a division by zero would be: an image without true and without predicted attributes is right, and has accuracy,
    precision and recall 1; else a precision or a recall without a denominator is 0, and so is an F1. An attribute which all
    images have, or none, tells nothing of its other half and is left out of mA. Labels that are not known count nowhere.

    The state is counts, so the scores over several ranks are exactly those of one, if the ranks share the images.

    Args:
        num_attributes: A.
        threshold: Probability from which on an attribute counts as predicted.

    Raises:
        ValueError: An argument is out of range.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    true: Tensor
    found: Tensor
    positive: Tensor
    known: Tensor
    images: Tensor

    def __init__(self, num_attributes: int, threshold: float = 0.5) -> None:
        super().__init__()
        if num_attributes < 1:
            raise ValueError(f"num_attributes={num_attributes} must be 1 or more.")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold={threshold} must lie between 0 and 1.")
        self.num_attributes, self.threshold = num_attributes, threshold
        for name in ("true", "found", "positive", "known"):
            self.add_state(name, torch.zeros(num_attributes, dtype=torch.int64), dist_reduce_fx="sum")
        # How many images have so many right ones of so many: found, positive, and either.
        size = num_attributes + 1
        self.add_state("images", torch.zeros(3, size * size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probability: Tensor, attributes: Tensor) -> None:
        """Add a batch.

        Args:
            probability: (B, A), from 0 to 1.
            attributes: (B, A) labels: 1 for yes, 0 for no, below 0 where it is not known.

        Raises:
            ValueError: The shapes do not fit, or a probability is none.
        """
        if probability.shape != attributes.shape or probability.shape[1:] != (self.num_attributes,):
            raise ValueError(
                f"probability is {tuple(probability.shape)} and attributes {tuple(attributes.shape)}; both must be "
                f"(B, {self.num_attributes})."
            )
        if not ((probability >= 0) & (probability <= 1)).all():
            raise ValueError("A probability is NaN or outside 0 to 1: the weights are broken, or these are logits.")
        known = attributes >= 0
        positive = attributes > 0
        found = (probability >= self.threshold) & known
        true = found & positive
        for name, labels in (("true", true), ("found", found), ("positive", positive), ("known", known)):
            setattr(self, name, getattr(self, name) + labels.sum(0))
        rows = known.any(1)
        right = true.sum(1)[rows]
        size = self.num_attributes + 1
        counts = [
            torch.bincount(right * size + either.sum(1)[rows], minlength=size * size)
            for either in (found, positive, found | positive)
        ]
        self.images = self.images + torch.stack(counts)

    def compute(self) -> AttributeScores:
        """Scores of everything seen by all ranks since the last reset; equal on every rank."""
        size = self.num_attributes + 1
        images = self.images.cpu().numpy().reshape(3, size, size)
        total = int(images[0].sum())
        empty = int(images[2, 0, 0])  # neither true nor predicted attributes
        right, of = np.arange(size)[:, None], np.arange(size).clip(min=1)
        precision, recall, accuracy = (
            float(((table * (right / of))[:, 1:].sum() + empty) / total) if total else float("nan") for table in images
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
        """Update only: the scores of a batch by itself mean little."""
        self.update(*args, **kwargs)

    def _each(self) -> PerAttributeScores:
        true, found, positive, known = (
            getattr(self, name).cpu().numpy() for name in ("true", "found", "positive", "known")
        )
        negative = known - positive
        true_negative = negative - (found - true)
        recall = _ratio(true, positive)
        precision = np.where((found == 0) & (positive > 0), 0.0, _ratio(true, found))
        return PerAttributeScores(
            mA=(recall + _ratio(true_negative, negative)) / 2,
            accuracy=_ratio(true + true_negative, known),
            precision=precision,
            recall=recall,
            f1=_ratio(2 * true, found + positive),
            num_positive=positive,
            num_known=known,
        )


def _ratio(part: Integers, whole: Integers) -> Floats:
    """NaN where the whole is nothing."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
