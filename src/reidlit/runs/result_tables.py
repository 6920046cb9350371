"""Result tables for terminals and report pages, with remarks on excluded queries and missing cameras."""

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table

from reidlit.console import show
from reidlit.metrics.verification import FPRS
from reidlit.runs.result import TestResult

RANKS = ("rank1", "rank5", "rank10", "rank20")
IN_PERCENT = ("mAP", "mINP", *RANKS, "AUC", "EER", *(f"TPR@FPR={fpr:.0e}" for fpr in FPRS))
ATTRIBUTE_METRICS = ("mA", "accuracy", "precision", "recall", "f1")
ATTRIBUTE_COUNTS = ("num_images", "num_positive", "num_known")
PER_ATTRIBUTE = "attributes/"  # prefix of the metrics of a single attribute


def print_results(results: Iterable[TestResult]) -> None:
    """Print retrieval results as one table with protocols and remarks, and attribute results as separate tables."""
    results = list(results)
    retrieval = [result for result in results if "mAP" in result.metrics]
    attributes = [result for result in results if "mA" in result.metrics]
    if retrieval:
        show(_retrieval_table(retrieval))
        for protocol in dict.fromkeys(result.protocol for result in retrieval if result.protocol):
            show(protocol)
        for result in retrieval:
            for remark in remarks(result):
                show(f"{result.prefix}: {remark}")
    if attributes:
        show(_attribute_table("attributes in percent", {result.prefix: result.metrics for result in attributes}))
        for result in attributes:
            if rows := _by_attribute(result):
                show(_attribute_table(f"{result.prefix} in percent", rows))


def result_rows(results: Sequence[TestResult]) -> list[list[str]]:
    """Return one row per metric: its name, then the percentage with its interval for each result."""
    rows = [[name, *(_cell(result, name) for result in results)] for name in IN_PERCENT]
    counts = [(result.metrics.get("num_valid"), result.metrics.get("num_queries")) for result in results]
    rows.append(["queries", *(f"{valid} of {total}" if total else "" for valid, total in counts)])
    return [row for row in rows if any(row[1:])]


def remarks(result: TestResult) -> list[str]:
    """Return remarks on queries that were excluded and on missing cameras."""
    texts = []
    metrics = result.metrics
    if num_absent := metrics.get("num_absent", 0):
        texts.append(f"{num_absent} queries were excluded: their identity is not in the gallery.")
    if num_same_camera := metrics.get("num_same_camera", 0):
        texts.append(
            f"{num_same_camera} queries were excluded: the gallery has their identity from the same camera only."
        )
    if metrics.get("has_cameras") is False:
        texts.append("No cameras are known: no gallery image is junk, except the query itself if it is in the gallery.")
    return texts


def _retrieval_table(results: Sequence[TestResult]) -> Table:
    table = Table(title="results in percent with 95 % confidence intervals over queries")
    table.add_column("")
    for result in results:
        table.add_column(result.prefix, justify="right")
    for row in result_rows(results):
        table.add_row(*row)
    return table


def _cell(result: TestResult, name: str) -> str:
    value = result.metrics.get(name)
    if value is None:
        return ""
    low, high = result.metrics.get("intervals", {}).get(name, (None, None))
    interval = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * value:.2f}{interval}"


def _by_attribute(result: TestResult) -> dict[str, dict[str, float | None]]:
    """Return the metrics of each attribute by name; the name may contain slashes."""
    rows: dict[str, dict[str, float | None]] = {}
    for name, value in result.metrics.items():
        if name.startswith(PER_ATTRIBUTE):
            attribute, _, metric = name.removeprefix(PER_ATTRIBUTE).rpartition("/")
            rows.setdefault(attribute, {})[metric] = value
    return rows


def _attribute_table(title: str, rows: Mapping[str, Mapping[str, float | None]]) -> Table:
    """Build a table with one row per name and the number of images in the last column."""
    table = Table(title=title)
    for heading in ("", *ATTRIBUTE_METRICS, "images"):
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    for name, metrics in rows.items():
        values = (metrics.get(metric) for metric in ATTRIBUTE_METRICS)
        counts = [str(metrics[count]) for count in ATTRIBUTE_COUNTS if count in metrics]
        table.add_row(name, *("" if value is None else f"{100 * value:.2f}" for value in values), " of ".join(counts))
    return table
