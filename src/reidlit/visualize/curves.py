"""Plots of a run, as SVG that uses the text color of the surrounding page, or as pixels."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from reidlit.escaping import for_terminal
from reidlit.metrics.intervals import interval

Values = Sequence[float] | NDArray[Any]
INK = "#010203"  # placeholder for the text color of the page
COLORS = ("#3b7dd8", "#d9822b", "#2e9e5b", "#b04fc4", "#c8413b", "#7a7f87")  # legible on white and on black
SIZE = (5.6, 3.6)  # inches
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # keeps text searchable and accessible to screen readers
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
}


def cmc_curve(first_match: Mapping[str, NDArray[Any]], ranks: int = 20) -> str:
    """Plot the CMC curve of each test set with its 95% interval over queries, as SVG.

    Args:
        first_match: (Q,) rank of the first match of each query with a match, from 1, by name of the test set.
        ranks: Largest rank.
    """
    figure, axes = _axes("rank", "queries with a match (%)")
    xs = np.arange(1, ranks + 1)
    for color, (name, ranked) in zip(_cycle(len(first_match)), first_match.items(), strict=True):
        hits = [(ranked <= rank).astype(np.float64) for rank in xs]
        bounds = np.array([interval(hit) for hit in hits])
        axes.plot(xs, [100 * hit.mean() for hit in hits], color=color, marker="o", markersize=3, label=_plain(name))
        axes.fill_between(xs, 100 * bounds[:, 0], 100 * bounds[:, 1], color=color, alpha=0.2, linewidth=0)
    axes.set_xticks([1, *range(5, ranks + 1, 5)])
    return _svg(_with_legend(figure, axes, len(first_match) > 1))


def cmc_figure(curves: Mapping[str, Values]) -> Figure:
    """Plot the CMC curve of each test set.

    Args:
        curves: (max_rank,) fraction of queries with a match up to each rank, from rank 1, by name of the test set.
    """
    figure, axes = _axes("rank", "queries with a match (%)")
    for color, (name, curve) in zip(_cycle(len(curves)), curves.items(), strict=True):
        percentages = 100 * np.asarray(curve, np.float64)
        axes.plot(
            np.arange(1, len(percentages) + 1), percentages, color=color, marker="o", markersize=3, label=_plain(name)
        )
    longest = max(len(curve) for curve in curves.values())
    axes.set_xticks([1, *range(5, longest + 1, 5)])
    return _with_legend(figure, axes, len(curves) > 1)


def roc_curve(curves: Mapping[str, Mapping[str, Values]]) -> str:
    """Plot the ROC curve of each test set as SVG; see `roc_figure`."""
    return _svg(roc_figure(curves))


def roc_figure(curves: Mapping[str, Mapping[str, Values]]) -> Figure:
    """Plot the ROC curve of each test set with a logarithmic FPR axis, because small rates matter most.

    Args:
        curves: `fpr` and `tpr` of equal length as fractions, by name of the test set. None marks a missing `tpr`.
    """
    figure, axes = _axes("false positive rate", "true positive rate (%)")
    for color, (name, curve) in zip(_cycle(len(curves)), curves.items(), strict=True):
        tpr = np.array([np.nan if value is None else value for value in curve["tpr"]], np.float64)
        axes.plot(curve["fpr"], 100 * tpr, color=color, label=_plain(name))
    axes.set_xscale("log")
    return _with_legend(figure, axes, len(curves) > 1)


def distance_histogram(histogram: Mapping[str, Values], threshold: float | None = None) -> str:
    """Plot the distances of pairs of the same person and of different persons, as SVG.

    Args:
        histogram: `edges` (B + 1,), and the counts `positive` (B,) and `negative` (B,).
        threshold: Distance to mark, or None.
    """
    figure, axes = _axes("distance", "pairs (%)")
    edges = np.asarray(histogram["edges"], np.float64)
    for name, label, color in (
        ("positive", "same person", COLORS[2]),
        ("negative", "different persons", COLORS[4]),
    ):
        counts = np.asarray(histogram[name], np.float64)
        percentage = 100 * counts / max(counts.sum(), 1)
        axes.stairs(percentage, edges, fill=True, alpha=0.35, color=color)
        axes.stairs(percentage, edges, color=color, label=label)
    if threshold is not None:
        axes.axvline(threshold, color=INK, linestyle="--", linewidth=1, label="equal error rate")
    return _svg(_with_legend(figure, axes, True))


def camera_heat_map(pairs: Mapping[str, Any], figure_of: str = "mAP") -> str:
    """Plot a metric for each pair of cameras as SVG; see `camera_figure`."""
    return _svg(camera_figure(pairs, figure_of))


def camera_figure(pairs: Mapping[str, Any], figure_of: str = "mAP") -> Figure:
    """Plot a metric in percent for each pair of query camera and gallery camera.

    Args:
        pairs: `q_camids` (A,), `g_camids` (B,), and the metric (A, B) as fractions. None or NaN marks a missing value.
        figure_of: Metric to plot, `mAP` or `rank1`.
    """
    values = 100 * np.array(
        [[np.nan if value is None else value for value in row] for row in pairs[figure_of]], np.float64
    )
    rows, columns = values.shape
    figure, axes = _axes("gallery camera", "query camera", (1.8 + 0.62 * columns, 1.2 + 0.45 * rows))
    axes.grid(False)
    axes.imshow(values, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(columns), [str(camid + 1) for camid in pairs["g_camids"]])
    axes.set_yticks(range(rows), [str(camid + 1) for camid in pairs["q_camids"]])
    for row, column in np.argwhere(np.isfinite(values)):
        shown = values[row, column]
        axes.text(
            column, row, f"{shown:.0f}", ha="center", va="center", color="black" if shown > 60 else "white", fontsize=9
        )
    return figure


def training_curve(label: str, curves: Mapping[str, tuple[Values, Values]]) -> str:
    """Plot metrics that were logged during training, as SVG.

    Args:
        label: Label of the y axis.
        curves: Steps and values of equal length by metric.
    """
    figure, axes = _axes("step", label)
    for color, (name, (steps, values)) in zip(_cycle(len(curves)), curves.items(), strict=True):
        axes.plot(steps, values, color=color, linewidth=1.2, label=_plain(name), marker="." if len(steps) < 3 else None)
    return _svg(_with_legend(figure, axes, len(curves) > 1))


def _plain(name: str) -> str:
    """Return a name without characters that cannot be drawn, in a form that Matplotlib does not read as a formula."""
    return for_terminal(name).replace("$", r"\$")


def _cycle(count: int) -> list[str]:
    return [COLORS[number % len(COLORS)] for number in range(count)]


def _axes(x: str, y: str, size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot(xlabel=x, ylabel=y)
    return figure, axes


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """Render a figure on white as an image (H, W, 3) uint8 RGB."""
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=100, facecolor="white")
    return np.asarray(Image.open(buffer).convert("RGB"))


def _with_legend(figure: Figure, axes: Axes, legend: bool) -> Figure:
    if legend:
        with rc_context(STYLE):
            axes.legend(framealpha=0)
    return figure


def _svg(figure: Figure) -> str:
    """Return the `<svg>` element of a figure; equal figures give equal text."""
    with rc_context(STYLE | {"svg.hashsalt": "reidlit"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")
