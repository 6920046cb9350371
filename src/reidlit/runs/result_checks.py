"""Checks of the values in `metrics.json`, which may be damaged or written by another program."""

from collections.abc import Callable, Mapping
from typing import Any

from reidlit.runs.result import HEADLINES

COUNTS = ("num_absent", "num_same_camera", "num_valid", "num_queries", "num_images", "num_positive", "num_known")
SCORES = (*HEADLINES, "mINP", "AUC", "EER", "accuracy", "precision", "recall", "f1")
LARGEST = 1e300  # larger numbers overflow in statistics and plots
MAX_PAIRS = 10**5  # pairs of cameras, which are drawn as a picture


def check_metrics(metrics: Mapping[str, Any]) -> None:
    """Check the types of the metrics that reidlit reads again; others are not checked.

    Args:
        metrics: Metrics by flat name, as in `metrics.json`.

    Raises:
        ValueError: If a value has another type than reidlit writes.
    """
    for name, value in metrics.items():
        metric = name.rpartition("/")[2]
        is_score = metric.startswith(("rank", "TPR@FPR=")) or metric in SCORES or isinstance(value, int | float)
        check = CHECKS.get(metric, _is_number if is_score else None)
        if check is not None and not check(value):
            raise ValueError(f"{name} has an invalid value of type {type(value).__name__}")


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, bool) or (isinstance(value, int | float) and abs(value) < LARGEST)


def _is_count(value: Any) -> bool:
    return value is None or (isinstance(value, int) and 0 <= value < LARGEST)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _are_known_numbers(value: Any) -> bool:
    return _are_numbers(value) and None not in value


def _are_named(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _is_interval(value: Any) -> bool:
    return _are_numbers(value) and len(value) == 2


def _is_roc(value: Any) -> bool:
    columns: list[Any] = [value.get(name) for name in ("fpr", "tpr", "threshold")] if isinstance(value, dict) else []
    return (
        bool(columns)
        and all(map(_are_numbers, columns))
        and None not in columns[0]
        and len({len(column) for column in columns}) == 1
    )


def _is_histogram(value: Any) -> bool:
    columns: list[Any] = (
        [value.get(name) for name in ("edges", "positive", "negative")] if isinstance(value, dict) else []
    )
    if not columns or not all(map(_are_known_numbers, columns)):
        return False
    edges, positive, negative = columns
    return len(edges) - 1 == len(positive) == len(negative) > 0 and edges == sorted(edges)


def _is_table_of_cameras(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    rows: Any = value.get("q_camids")
    columns: Any = value.get("g_camids")
    if not _are_known_numbers(rows) or not _are_known_numbers(columns) or len(rows) * len(columns) > MAX_PAIRS:
        return False
    tables = [table for name, table in value.items() if name not in ("q_camids", "g_camids")]
    return "mAP" in value and all(
        isinstance(table, list)
        and len(table) == len(rows)
        and all(_are_numbers(row) and len(row) == len(columns) for row in table)
        for table in tables
    )


CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(COUNTS, _is_count),
    "protocol": lambda value: isinstance(value, str | None),
    "has_cameras": lambda value: isinstance(value, bool | None),
    "cmc": _are_numbers,
    "intervals": _are_named(_is_interval),
    "thresholds": _are_named(_is_number),
    "roc": _is_roc,
    "histogram": _is_histogram,
    "camera_pairs": _is_table_of_cameras,
}
