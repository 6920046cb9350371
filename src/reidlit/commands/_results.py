"""What a run tells about its scores: the table, `metrics.json` and the results of each query."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from reidlit.data.sample import Sample, first_frame, readable
from reidlit.data.splits import EvalSet
from reidlit.metrics import ReIDMetric, Scores
from reidlit.metrics.scores import FPRS
from reidlit.metrics.table import write_table

RANKS = ("rank1", "rank5", "rank10", "rank20")
IN_PERCENT = ("mAP", "mINP", *RANKS, "AUC", "EER", *(f"TPR@FPR={fpr:.0e}" for fpr in FPRS))
CURVE_POINTS = 10.0 ** np.linspace(-6, 0, 61)  # FPRs of the ROC curve in metrics.json


def describe(
    evaluation: Mapping[str, Any], image_size: Sequence[int] | None, uses_cameras: bool = False, unit: str = "images"
) -> str:
    """The protocol in a line: all that must be equal where two figures are compared.

    Args:
        evaluation: The options of the evaluation, as a module has them.
        image_size: Height and width, in pixels; None of embeddings that were made before.
        uses_cameras: Whether the model is told the camera of each image.
        unit: What is compared: images or tracklets.
    """
    steps = [_step(spec) for spec in evaluation.get("postprocess", ())]
    metric = evaluation.get("metric", "euclidean")
    gallery = {"centroid": "one centroid an identity", "cuhk03": "one image an identity, for the CMC"}
    protocol = evaluation.get("protocol", "market1501")
    parts = [
        f"{image_size[0]} x {image_size[1]}" if image_size else "stored embeddings",
        f"{metric} distance" + (" of unit embeddings" if evaluation.get("normalize") else ""),
        *(["flip averaged" if evaluation.get("flip") else "no flip"] if image_size else []),
        "post-processing: " + (", ".join(steps) or "none"),
        f"AP: {evaluation.get('ap', 'step')}",
        *(["the model is told each image's camera"] if uses_cameras else []),
        f"protocol: {protocol}",
        "query: " + ("mean of each identity and camera" if protocol == "multi_query" else f"single {unit}"),
        "gallery: " + gallery.get(protocol, unit),
    ]
    return "; ".join(parts)


def _step(spec: Mapping[str, Any]) -> str:
    name = str(spec["_target_"]).rpartition(".")[2]
    return f"{name}({', '.join(f'{key}={value}' for key, value in spec.items() if key != '_target_')})"


def figures(scores: Scores, protocol: str) -> dict[str, Any]:
    """All that `metrics.json` holds of one test set, by name; fractions, and None for what cannot be computed."""
    found: dict[str, Any] = dict(scores.as_dict())
    found |= {
        "intervals": {name: list(bounds) for name, bounds in scores.intervals().items()},
        "protocol": protocol,
        "num_absent": scores.num_absent,
        "num_same_camera": scores.num_same_camera,
        "has_cameras": scores.has_cameras,
        "cmc": scores.cmc.tolist(),
    }
    if scores.verification is not None:
        curve = scores.verification.curve
        found |= {
            "num_positive": curve.num_positive,
            "num_negative": curve.num_negative,
            "thresholds": {f"FPR={fpr:.0e}": curve.threshold_at(fpr) for fpr in FPRS} | {"EER": curve.eer_threshold},
            "roc": {
                "fpr": CURVE_POINTS.tolist(),
                "tpr": [curve.tpr_at(fpr) for fpr in CURVE_POINTS],
                "threshold": [curve.threshold_at(fpr) for fpr in CURVE_POINTS],
            },
            "histogram": {name: value.tolist() for name, value in curve.histogram._asdict().items()},
        }
    if scores.camera_pairs is not None:
        found["camera_pairs"] = {name: value.tolist() for name, value in scores.camera_pairs._asdict().items()}
    return {name: _finite(value) for name, value in found.items()}


def _finite(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def result_rows(metrics: Mapping[str, Any], prefixes: Sequence[str]) -> list[list[str]]:
    """A row for each figure that is known: its name, and for each prefix its percentage with the interval."""
    rows = [[name, *(_cell(metrics, prefix, name) for prefix in prefixes)] for name in IN_PERCENT]
    counts = [(metrics.get(f"{prefix}/num_valid"), metrics.get(f"{prefix}/num_queries")) for prefix in prefixes]
    rows.append(["queries", *(f"{valid} of {total}" if total else "" for valid, total in counts)])
    return [row for row in rows if any(row[1:])]


def print_table(metrics: Mapping[str, Any]) -> None:
    """Print a column for each model state and dataset, in percent with 95 % intervals, and the protocol."""
    prefixes = [name.removesuffix("/mAP") for name in metrics if name.endswith("/mAP")]
    if not prefixes:
        return
    table = Table(title="results in percent, with 95 % intervals over queries")
    table.add_column("")
    for prefix in prefixes:
        table.add_column(prefix, justify="right")
    for row in result_rows(metrics, prefixes):
        table.add_row(*row)
    console = Console()
    console.print(table)
    for protocol in dict.fromkeys(metrics.get(f"{prefix}/protocol") for prefix in prefixes):
        if protocol:
            console.print(protocol, highlight=False)
    for prefix in prefixes:
        for remark in remarks(metrics, prefix):
            console.print(f"{prefix}: {remark}", highlight=False)


def _cell(metrics: Mapping[str, Any], prefix: str, name: str) -> str:
    value = metrics.get(f"{prefix}/{name}")
    if value is None:
        return ""
    low, high = metrics.get(f"{prefix}/intervals", {}).get(name, (None, None))
    interval = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * value:.2f}{interval}"


def remarks(metrics: Mapping[str, Any], prefix: str) -> list[str]:
    """What a reader of the figures must know: queries that do not count, and missing cameras."""
    found = []
    absent, same_camera = (metrics.get(f"{prefix}/{name}", 0) for name in ("num_absent", "num_same_camera"))
    if absent:
        found.append(f"{absent} queries do not count: their identity is not in the gallery.")
    if same_camera:
        found.append(f"{same_camera} queries do not count: only their own camera has seen their identity.")
    if metrics.get(f"{prefix}/has_cameras") is False:
        found.append(
            "no cameras are known, so no gallery image is left out as junk, except a query's own where it is there too."
        )
    return found


def write_per_query(
    path: Path, scores: Mapping[str, Scores], sets: Mapping[str, EvalSet], metrics: Mapping[str, ReIDMetric]
) -> None:
    """Write a row for each query of each test set.

    `nearest` numbers the gallery images as the dataset lists them, from 0.

    Args:
        path: A .parquet or .csv file.
        scores: By dataset.
        sets: The samples, by dataset.
        metrics: What computed the scores, by dataset.
    """
    tables = [_rows(name, scores[name], sets[name], metrics[name]) for name in scores]
    shared = [column for column in tables[0] if all(column in table for table in tables)]
    write_table(path, {column: np.concatenate([table[column] for table in tables]) for column in shared})


def _rows(name: str, scores: Scores, sets: EvalSet, metric: ReIDMetric) -> dict[str, NDArray[Any]]:
    columns = dict(scores.per_query())
    query, gallery = metric.collected
    if len(columns["ap"]) == len(query.index):  # with pooled queries a row is no image
        samples: list[Sample] = [sets.query[index] for index in query.index.tolist()]
        columns = {
            "path": np.array([readable(first_frame(sample.path)) for sample in samples]),
            "pid": np.array([sample.pid for sample in samples]),
            "camid": np.array([sample.camid for sample in samples]),
        } | columns
    if "nearest" in columns:
        first = len(sets.query)  # the gallery's samples are numbered after the queries
        listed = columns["nearest"]
        columns["nearest"] = np.where(listed < 0, -1, gallery.index.numpy()[listed.clip(min=0)] - first)
    return {"dataset": np.full(len(columns["ap"]), name)} | columns
