"""Curves of a run: as SVG, whose text and axes take the colour of the page that they stand in, or as pixels."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from reidlit.metrics.intervals import interval

Values = Sequence[float] | NDArray[Any]
INK = "#010203"  # stands for the colour of the page's text
COLOURS = ("#3b7dd8", "#d9822b", "#2e9e5b", "#b04fc4", "#c8413b", "#7a7f87")  # legible on white and on black
SIZE = (5.6, 3.6)  # inches
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
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
    """CMC of each test set with its 95 % interval over queries.

    Args:
        first_match: by name, (Q,) the rank of each query's first match, from 1; those without a match left out.
        ranks: up to which.
    """
    figure, axes = _axes("rank", "queries with a match so far (%)")
    xs = np.arange(1, ranks + 1)
    for colour, (name, ranked) in zip(_cycle(len(first_match)), first_match.items(), strict=True):
        hits = [(ranked <= rank).astype(np.float64) for rank in xs]
        bounds = np.array([interval(hit) for hit in hits])
        axes.plot(xs, [100 * hit.mean() for hit in hits], color=colour, marker="o", markersize=3, label=name)
        axes.fill_between(xs, 100 * bounds[:, 0], 100 * bounds[:, 1], color=colour, alpha=0.2, linewidth=0)
    axes.set_xticks([1, *range(5, ranks + 1, 5)])
    return _svg(_with_legend(figure, axes, len(first_match) > 1))


def cmc_figure(curves: Mapping[str, Values]) -> Figure:
    """CMC of each test set as it was scored.

    Args:
        curves: by name, (max_rank,) the share of queries with a match so far, from rank 1.
    """
    figure, axes = _axes("rank", "queries with a match so far (%)")
    for colour, (name, curve) in zip(_cycle(len(curves)), curves.items(), strict=True):
        shares = 100 * np.asarray(curve, np.float64)
        axes.plot(np.arange(1, len(shares) + 1), shares, color=colour, marker="o", markersize=3, label=name)
    longest = max(len(curve) for curve in curves.values())
    axes.set_xticks([1, *range(5, longest + 1, 5)])
    return _with_legend(figure, axes, len(curves) > 1)


def roc_curve(curves: Mapping[str, Mapping[str, Values]]) -> str:
    """`roc_figure` as SVG."""
    return _svg(roc_figure(curves))


def roc_figure(curves: Mapping[str, Mapping[str, Values]]) -> Figure:
    """ROC of each test set, FPR on a logarithmic axis: small ones are those that count.

    Args:
        curves: by name, `fpr` and `tpr` of equal length, as fractions; None where there is no value.
    """
    figure, axes = _axes("pairs of different persons accepted (FPR)", "pairs of one person accepted (%)")
    for colour, (name, curve) in zip(_cycle(len(curves)), curves.items(), strict=True):
        tpr = np.array([np.nan if value is None else value for value in curve["tpr"]], np.float64)
        axes.plot(curve["fpr"], 100 * tpr, color=colour, label=name)
    axes.set_xscale("log")
    return _with_legend(figure, axes, len(curves) > 1)


def distance_histogram(histogram: Mapping[str, Values], threshold: float | None = None) -> str:
    """Distances of pairs of one person against those of two.

    Args:
        histogram: `edges` (B + 1,), `positive` (B,) and `negative` (B,) counts.
        threshold: marked, if given.
    """
    figure, axes = _axes("distance", "share of pairs (%)")
    edges = np.asarray(histogram["edges"], np.float64)
    for name, label, colour in (
        ("positive", "same person", COLOURS[2]),
        ("negative", "different persons", COLOURS[4]),
    ):
        counts = np.asarray(histogram[name], np.float64)
        share = 100 * counts / max(counts.sum(), 1)
        axes.stairs(share, edges, fill=True, alpha=0.35, color=colour)
        axes.stairs(share, edges, color=colour, label=label)
    if threshold is not None:
        axes.axvline(threshold, color=INK, linestyle="--", linewidth=1, label="equal error rate")
    return _svg(_with_legend(figure, axes, True))


def camera_heat_map(pairs: Mapping[str, Any], figure_of: str = "mAP") -> str:
    """`camera_figure` as SVG."""
    return _svg(camera_figure(pairs, figure_of))


def camera_figure(pairs: Mapping[str, Any], figure_of: str = "mAP") -> Figure:
    """How well, in percent, the queries of each camera find people in each other camera.

    Args:
        pairs: `q_camids` (A,), `g_camids` (B,), and `mAP` or `rank1` (A, B), None or NaN where there is none.
        figure_of: `mAP` or `rank1`.
    """
    values = 100 * np.array(
        [[np.nan if value is None else value for value in row] for row in pairs[figure_of]], np.float64
    )
    rows, columns = values.shape
    figure, axes = _axes("camera of the gallery", "camera of the query", (1.8 + 0.62 * columns, 1.2 + 0.45 * rows))
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
    """Values that were logged during training.

    Args:
        label: of the axis.
        curves: by name, steps and values of equal length.
    """
    figure, axes = _axes("step", label)
    for colour, (name, (steps, values)) in zip(_cycle(len(curves)), curves.items(), strict=True):
        axes.plot(steps, values, color=colour, linewidth=1.2, label=name, marker="." if len(steps) < 3 else None)
    return _svg(_with_legend(figure, axes, len(curves) > 1))


def _cycle(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def _axes(x: str, y: str, size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot(xlabel=x, ylabel=y)
    return figure, axes


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a figure on white."""
    written = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(written, format="png", dpi=100, facecolor="white")
    return np.asarray(Image.open(written).convert("RGB"))


def _with_legend(figure: Figure, axes: Axes, legend: bool) -> Figure:
    if legend:
        with rc_context(STYLE):
            axes.legend(framealpha=0)
    return figure


def _svg(figure: Figure) -> str:
    """The `<svg>` element alone; equal figures give equal text."""
    with rc_context(STYLE | {"svg.hashsalt": "reidlit"}):
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")
