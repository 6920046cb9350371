"""Metrics of an evaluation in the form of `metrics.json`, and a description of the evaluation protocol."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reidlit.metrics.attribute_metric import AttributeScores
from reidlit.metrics.scores import Scores
from reidlit.metrics.verification import FPRS, ROCCurve

ROC_FPRS = 10.0 ** np.linspace(-6, 0, 61)  # false positive rates at which the ROC curve is stored
GALLERIES = {"centroid": "one centroid per identity", "cuhk03": "one image per identity for the CMC"}


def retrieval_metrics(scores: Scores, protocol: str) -> dict[str, Any]:
    """Return all metrics of a retrieval evaluation by name, as fractions; None for undefined values.

    Args:
        scores: Scores of the evaluation.
        protocol: Description of the evaluation from `protocol_line`.
    """
    metrics: dict[str, Any] = dict(scores.as_dict())
    metrics |= {
        "intervals": {name: list(bounds) for name, bounds in scores.intervals().items()},
        "protocol": protocol,
        "num_absent": scores.num_absent,
        "num_same_camera": scores.num_same_camera,
        "has_cameras": scores.has_cameras,
        "cmc": scores.cmc.tolist(),
    }
    if scores.verification is not None:
        curve = scores.verification.curve
        metrics |= {
            "num_positive": curve.num_positive,
            "num_negative": curve.num_negative,
            "thresholds": {f"FPR={fpr:.0e}": curve.threshold_at(fpr) for fpr in FPRS} | {"EER": curve.eer_threshold},
            "roc": roc_points(curve),
            "histogram": {name: value.tolist() for name, value in curve.histogram._asdict().items()},
        }
    if scores.camera_pairs is not None:
        metrics["camera_pairs"] = {name: value.tolist() for name, value in scores.camera_pairs._asdict().items()}
    return finite(metrics)


def roc_points(curve: ROCCurve) -> dict[str, list[float]]:
    """Return `fpr`, `tpr` and `threshold` of a ROC curve at 61 false positive rates from 1e-6 to 1."""
    return {
        "fpr": ROC_FPRS.tolist(),
        "tpr": [curve.tpr_at(fpr) for fpr in ROC_FPRS],
        "threshold": [curve.threshold_at(fpr) for fpr in ROC_FPRS],
    }


def attribute_metrics(scores: AttributeScores, names: Sequence[str]) -> dict[str, Any]:
    """Return all metrics of attribute recognition by name; per attribute as `attributes/<name>/<metric>`."""
    return finite({**scores.as_dict(), "num_images": scores.num_images, **scores.by_attribute(names)})


def finite(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Replace NaN and infinity, which JSON does not support, by None at any depth."""
    return {name: _finite(value) for name, value in metrics.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return finite(value)
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def protocol_line(
    evaluation: Mapping[str, Any],
    image_size: Sequence[int] | None,
    uses_cameras: bool = False,
    item_name: str = "images",
) -> str:
    """Describe the evaluation in one line; two results are comparable only if these lines are equal.

    Args:
        evaluation: Evaluation options of a module.
        image_size: Height and width in pixels; None for stored embeddings.
        uses_cameras: Whether the model receives the camera of each image as an input.
        item_name: Name of the evaluated items, "images" or "tracklets".
    """
    protocol = evaluation.get("protocol", "market1501")
    distance = f"{evaluation.get('metric', 'euclidean')} distance"
    parts = [
        f"{image_size[0]} x {image_size[1]}" if image_size else "stored embeddings",
        f"{distance} of unit embeddings" if evaluation.get("normalize") else distance,
    ]
    if image_size:
        parts.append("flip averaged" if evaluation.get("flip") else "no flip")
    steps = [_step(spec) for spec in evaluation.get("postprocess", ())]
    parts += [f"post-processing: {', '.join(steps) or 'none'}", f"AP: {evaluation.get('ap', 'step')}"]
    if uses_cameras:
        parts.append("camera-aware model")
    query = "mean of each identity and camera" if protocol == "multi_query" else f"single {item_name}"
    parts += [f"protocol: {protocol}", f"query: {query}", f"gallery: {GALLERIES.get(protocol, item_name)}"]
    return "; ".join(parts)


def _step(spec: Mapping[str, Any]) -> str:
    name = str(spec["_target_"]).rpartition(".")[2]
    return f"{name}({', '.join(f'{key}={value}' for key, value in spec.items() if key != '_target_')})"
