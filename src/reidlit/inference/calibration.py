"""Are two images the same person? A threshold on their distance decides, which a labelled set has calibrated."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike

from reidlit.files import atomic_path
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.image_inputs import Given
from reidlit.metrics.distance import pairwise_distance
from reidlit.models.weights import read_checkpoint

KEY = "calibration"  # in a checkpoint


@dataclass(frozen=True)
class Calibration:
    """The thresholds of a model, measured on a labelled set.

    Attributes:
        dataset: on which.
        metric: euclidean (the square of the distance) or cosine.
        normalize: whether embeddings were scaled to length one first.
        flip: whether an image and its mirror image were averaged.
        fpr: shares of pairs of different persons that are taken for the same, ascending.
        threshold: the largest distance at which that share is not passed, one each.
    """

    dataset: str
    metric: str
    normalize: bool
    flip: bool
    fpr: tuple[float, ...]
    threshold: tuple[float, ...]

    def at(self, fpr: float) -> float:
        """The largest threshold that was measured for a share of false positives not above `fpr`.

        Raises:
            ValueError: if `fpr` is no share, or so small a share was not measured.
        """
        if not 0 < fpr <= 1:
            raise ValueError(f"fpr={fpr} must be above 0 and at most 1.")
        measured = [(share, t) for share, t in zip(self.fpr, self.threshold, strict=True) if math.isfinite(t)]
        thresholds = [threshold for share, threshold in measured if share <= fpr * (1 + 1e-9)]
        if not thresholds:
            least = f"; the least is {min(measured)[0]:g}" if measured else ""
            raise ValueError(f"fpr={fpr:g} is below what {self.dataset} can tell, which has too few pairs{least}.")
        return max(thresholds)

    def as_dict(self) -> dict[str, Any]:
        """In types that a checkpoint may hold."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def of(content: Mapping[str, Any]) -> "Calibration":
        """From `as_dict`.

        Raises:
            ValueError: if it is none.
        """
        try:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
            return Calibration(**values)
        except TypeError as error:
            raise ValueError(f"this is no calibration: {error}.") from error

    @staticmethod
    def of_test(dataset: str, figures: Mapping[str, Any], evaluation: Mapping[str, Any]) -> "Calibration | None":
        """Read the thresholds from the ROC curve of a test; None if there is none.

        Thresholds apply to the embeddings of the model itself, so a test with post-processing has none.

        Args:
            dataset: Name of the test set.
            figures: What the test measured, with `roc` (lists `fpr` and `threshold`) if it measured pairs.
            evaluation: Options of the evaluation.
        """
        curve = figures.get("roc")
        if curve is None or evaluation.get("postprocess"):
            return None
        points = [(f, t) for f, t in zip(curve["fpr"], curve["threshold"], strict=True) if t is not None]
        return Calibration(
            dataset=dataset,
            metric=str(evaluation.get("metric", "euclidean")),
            normalize=bool(evaluation.get("normalize", False)),
            flip=bool(evaluation.get("flip", False)),
            fpr=tuple(float(f) for f, _ in points),
            threshold=tuple(float(t) for _, t in points),
        )


def stored(path: str | Path) -> Calibration | None:
    """The calibration that a checkpoint, or a JSON file, holds.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read.
    """
    file = Path(path).expanduser()
    if file.suffix == ".json":
        if not file.is_file():
            raise FileNotFoundError(f"calibration={path} does not exist; reidlit test writes it.")
        try:
            return Calibration.of(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, AttributeError) as error:
            raise ValueError(f"calibration={path} is no calibration of reidlit test ({error}).") from error
    content = read_checkpoint(file)
    calibration = content.get(KEY) if isinstance(content, dict) else None
    return Calibration.of(calibration) if isinstance(calibration, dict) else None


def store(path: Path, calibration: Calibration) -> None:
    """Put a calibration into a checkpoint, which is written whole or stays as it is."""
    content = read_checkpoint(path)
    with atomic_path(path) as part:
        torch.save({**content, KEY: calibration.as_dict()}, part)


class Verdict(NamedTuple):
    """Whether two images show the same person: whether their distance is at most the threshold."""

    same: bool
    distance: float
    threshold: float


def verify(
    extractor: FeatureExtractor,
    first: Given,
    second: Given,
    threshold: float,
    metric: str = "euclidean",
    camids: ArrayLike | None = None,
) -> Verdict:
    """Compare two images.

    Args:
        extractor: set up as when the threshold was measured.
        first: in any form that the extractor takes.
        second: likewise.
        threshold: of a `Calibration`.
        metric: likewise.
        camids: (2,) for a model that uses cameras.
    """
    embedding = extractor([first, second], camids)
    distance = float(pairwise_distance(embedding[:1], embedding[1:], metric))
    return Verdict(distance <= threshold, distance, threshold)
