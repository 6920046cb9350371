"""What a run tells about its scores of attributes."""

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

FIGURES = ("mA", "accuracy", "precision", "recall", "f1")
COUNTS = ("num_images", "num_positive", "num_known")
EACH = "/attributes/"  # in the names of figures, before an attribute


def figures(scores: Mapping[str, float]) -> dict[str, Any]:
    """The same with None for NaN, which JSON does not know."""
    return {name: None if math.isnan(value) else value for name, value in scores.items()}


def print_attributes(metrics: Mapping[str, Any]) -> None:
    """Print the figures in percent, if there are any: a row for each split, and a table of each attribute in the test."""
    prefixes = [name.removesuffix("/mA") for name in metrics if name.endswith("/mA") and EACH not in name]
    if not prefixes:
        return
    _print_rows("attributes in percent", {prefix: prefix for prefix in prefixes}, metrics)
    for start in [f"{prefix}{EACH}" for prefix in prefixes]:
        names = [name[len(start) : -len("/mA")] for name in metrics if name.startswith(start) and name.endswith("/mA")]
        if names:
            _print_rows(f"{start.removesuffix(EACH)} in percent", {name: start + name for name in names}, metrics)


def _print_rows(title: str, rows: Mapping[str, str], metrics: Mapping[str, Any]) -> None:
    """Print a row for each prefix; the last column counts images, of single attributes those that have it."""
    table = Table(title=title)
    for heading in ("", *FIGURES, "images"):
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    for name, prefix in rows.items():
        values = (metrics.get(f"{prefix}/{figure}") for figure in FIGURES)
        counts = [metrics[key] for each in COUNTS if (key := f"{prefix}/{each}") in metrics]
        table.add_row(name, *("" if v is None else f"{100 * v:.2f}" for v in values), " of ".join(map(str, counts)))
    Console().print(table)
