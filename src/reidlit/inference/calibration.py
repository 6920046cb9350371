"""Verification of image pairs with calibrated distance thresholds."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike

from reidlit.files import atomic_path, file_version
from reidlit.foreign_files import expanded, read_json, reading
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.image_inputs import ImageInput
from reidlit.locks import locked
from reidlit.metrics.distance import METRICS, pairwise_distance
from reidlit.models.weights import read_checkpoint, read_settings

KEY = "calibration"  # key in a checkpoint


@dataclass(frozen=True)
class Calibration:
    """Distance thresholds of a model, measured on a labeled dataset.

    Attributes:
        dataset: Name of the dataset.
        metric: `euclidean` (squared distances) or `cosine`.
        normalize: Whether embeddings were scaled to unit length.
        flip: Whether the embeddings of an image and its mirror image were averaged.
        fpr: False positive rates in ascending order: fractions of pairs of different persons below the threshold.
        threshold: Largest threshold that does not exceed each false positive rate.
    """

    dataset: str
    metric: str
    normalize: bool
    flip: bool
    fpr: tuple[float, ...]
    threshold: tuple[float, ...]

    def at(self, fpr: float) -> float:
        """Return the largest measured threshold with a false positive rate of at most `fpr`.

        Raises:
            ValueError: If `fpr` is not in (0, 1], or lower than every measured rate.
        """
        if not 0 < fpr <= 1:
            raise ValueError(f"fpr={fpr} is invalid: must be greater than 0 and at most 1.")
        measured = [(rate, t) for rate, t in zip(self.fpr, self.threshold, strict=True) if math.isfinite(t)]
        thresholds = [threshold for rate, threshold in measured if rate <= fpr * (1 + 1e-9)]
        if not thresholds:
            lowest = f": use at least {min(measured)[0]:g}" if measured else ""
            raise ValueError(
                f"fpr={fpr:g} is too low: {self.dataset} has too few pairs to measure a threshold for it{lowest}."
            )
        return max(thresholds)

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes as a dict of types that a checkpoint may contain."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> "Calibration":
        """Create a calibration from the result of `as_dict`.

        Raises:
            ValueError: If keys are missing or unknown, or a value has another type.
        """
        try:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
            calibration = Calibration(**values)
        except TypeError as error:
            raise ValueError(f"The calibration has missing or unknown keys: {error}.") from error
        is_valid = (
            isinstance(calibration.dataset, str)
            and calibration.metric in METRICS
            and isinstance(calibration.normalize, bool)
            and isinstance(calibration.flip, bool)
            and _are_numbers(calibration.fpr)
            and _are_numbers(calibration.threshold)
            and len(calibration.fpr) == len(calibration.threshold)
        )
        if not is_valid:
            raise ValueError("The calibration has a value of another type than `as_dict` returns.")
        return calibration

    @staticmethod
    def of_test(dataset: str, metrics: Mapping[str, Any], evaluation: Mapping[str, Any]) -> "Calibration | None":
        """Create a calibration from the ROC curve of a test.

        Args:
            dataset: Name of the test set.
            metrics: Metrics of the test. Their `roc` contains the lists `fpr` and `threshold`.
            evaluation: Options of the evaluation.

        Returns:
            The calibration. None without a ROC curve, or if post-processing changed the distances, because thresholds
            apply to distances between the original embeddings.
        """
        curve = metrics.get("roc")
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


def _are_numbers(values: object) -> bool:
    return isinstance(values, tuple) and all(type(value) in (int, float) for value in values)


def stored(path: str | Path) -> Calibration | None:
    """Read the calibration in a checkpoint or JSON file; None if a checkpoint has none.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read.
    """
    file = expanded(path)
    if file.suffix == ".json":
        if not file.is_file():
            raise FileNotFoundError(f"calibration={path} does not exist: create it with reidlit test.")
        remedy = "It must be a calibration file of reidlit test."
        with reading(file, remedy):
            return Calibration.from_dict(read_json(file, remedy))
    calibration = read_settings(file).get(KEY)
    if not isinstance(calibration, dict):
        return None
    with reading(path, "Repeat `reidlit test ckpt_path=<file> calibrate=true`."):
        return Calibration.from_dict(calibration)


def store(path: Path, calibration: Calibration, version: tuple[int, int] | None = None) -> bool:
    """Add a calibration to a checkpoint; the file is replaced atomically.

    Args:
        path: Checkpoint.
        calibration: Thresholds of the model in the checkpoint.
        version: `file_version` of the checkpoint that was calibrated; None if no other process writes the checkpoint.

    Returns:
        False if the checkpoint has been replaced since then, for example by a training that still runs.
    """
    with locked(path) as is_locked:
        if version not in (None, file_version(path)):
            return False
        content = read_checkpoint(path)
        with atomic_path(path, shared=not is_locked) as temporary:
            torch.save({**content, KEY: calibration.as_dict()}, temporary)
    return True


class Verdict(NamedTuple):
    """Result of `verify`: `same` is True if `distance` is at most `threshold`."""

    same: bool
    distance: float
    threshold: float


def verify(
    extractor: FeatureExtractor,
    first: ImageInput,
    second: ImageInput,
    threshold: float,
    metric: str = "euclidean",
    camids: ArrayLike | None = None,
) -> Verdict:
    """Decide whether two images show the same person.

    Args:
        extractor: Feature extractor with the options of the calibration.
        first: First image, in any form that the extractor accepts.
        second: Second image.
        threshold: Largest distance between images of the same person; see `Calibration.at`.
        metric: Distance of the calibration, `euclidean` or `cosine`.
        camids: Cameras of both images (2,), required if the model uses cameras.
    """
    embedding = extractor([first, second], camids)
    distance = float(pairwise_distance(embedding[:1], embedding[1:], metric))
    return Verdict(distance <= threshold, distance, threshold)
