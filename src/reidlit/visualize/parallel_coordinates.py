"""The jobs of a sweep as lines over axes: which settings go with which score."""

import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "reidlit",
    "font.size": 10,
}  # text stays text; equal jobs, equal files
GREY = "#8a8f98"
DECADES = 1.5  # from here on an axis is logarithmic
TICKS = 6  # of an axis, about
SPREAD = 0.06  # of an axis, among the jobs that share a value: their lines would hide each other
FAILED = -0.12  # where the lines of failed jobs end, below the axis of the score
LONGEST = 22  # letters of a label


@dataclass(frozen=True)
class Axis:
    """One upright axis of length 1.

    Attributes:
        name: What it shows.
        positions: Of each job, from 0 to 1; NaN where it has none.
        ticks: Position and label.
    """

    name: str
    positions: Sequence[float]
    ticks: Sequence[tuple[float, str]]


def parallel_coordinates(settings: Mapping[str, Sequence[str]], scores: Sequence[float | None], label: str) -> str:
    """An SVG with an axis for each setting and one for the score, and a line for each job, coloured by its score.

    Numbers lie on a linear axis, or on a logarithmic one where they span decades; other values at equal distances.

    Source: Inselberg, "The plane with parallel coordinates", The Visual Computer 1985.

    Args:
        settings: by name, (J,) the value of each job, as text.
        scores: (J,) of each job; None for one that has failed, which is drawn grey.
        label: of the scores.

    Raises:
        ValueError: if no job has a score.
    """
    known = [score for score in scores if score is not None]
    if not known:
        raise ValueError("scores: no job has one, so there is nothing to draw.")
    axes = [_spread(axis_of(name, values), scores) for name, values in settings.items()]
    axes.append(_numeric(label, [math.nan if score is None else score for score in scores], grid=False))
    with rc_context(STYLE):
        figure = Figure(figsize=(1.2 + 1.75 * len(axes), 4.2), layout="constrained", facecolor="white")
        plot = figure.add_subplot(xlim=(-0.35, len(axes) - 0.65), ylim=(FAILED - 0.06, 1.14))
        plot.axis("off")
        _draw_lines(plot, axes, scores)
        for x, axis in enumerate(axes):
            _draw_axis(plot, x, axis)
        if len(known) < len(scores):
            plot.text(len(axes) - 0.95, FAILED, "failed", va="center", color=GREY)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return written.getvalue()


def axis_of(name: str, values: Sequence[str]) -> Axis:
    """The axis of a setting: numeric if all its values are finite numbers, else one of categories."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = []
    if numbers and all(map(math.isfinite, numbers)):
        return _numeric(name, numbers)
    order = {value: number for number, value in enumerate(sorted(set(values)))}
    places = {value: (number + 0.5) / len(order) for value, number in order.items()}
    return Axis(name, [places[value] for value in values], [(place, value) for value, place in places.items()])


def _numeric(name: str, numbers: Sequence[float], grid: bool = True) -> Axis:
    """Numbers by their size; those of a grid, which jobs share, are each labelled if they are few."""
    known = sorted({number for number in numbers if not math.isnan(number)})
    low, high = known[0], known[-1]
    if low == high:
        return Axis(name, [number + 0.5 - low for number in numbers], [(0.5, f"{low:g}")])
    logarithmic = low > 0 and math.log10(high / low) >= DECADES
    scale = math.log10 if logarithmic else float
    first, length = scale(low), scale(high) - scale(low)
    locator = LogLocator(numticks=TICKS) if logarithmic else MaxNLocator(TICKS)
    marked = [float(x) for x in locator.tick_values(low, high) if low <= x <= high]
    if not marked or (grid and len(known) <= TICKS and len(known) < len(numbers)):
        marked = known
    place = {x: (scale(x) - first) / length for x in {*marked, *known}}
    positions = [place.get(number, math.nan) for number in numbers]
    return Axis(name, positions, [(place[x], f"{x:.6g}") for x in marked])


def _spread(axis: Axis, scores: Sequence[float | None]) -> Axis:
    """Jobs of one value a little apart, the better ones higher."""
    sharing = defaultdict(list)
    for job, place in enumerate(axis.positions):
        sharing[place].append(job)
    positions = list(axis.positions)
    for place, members in sharing.items():
        members.sort(key=lambda job: -math.inf if (score := scores[job]) is None else score)
        for number, job in enumerate(members):
            positions[job] = place + SPREAD * ((number + 0.5) / len(members) - 0.5)
    return Axis(axis.name, positions, axis.ticks)


def _draw_lines(plot: Axes, axes: Sequence[Axis], scores: Sequence[float | None]) -> None:
    """The best last, so that it lies above the others."""
    for job in sorted(range(len(scores)), key=lambda job: -math.inf if (score := scores[job]) is None else score):
        ys = [axis.positions[job] for axis in axes]
        if scores[job] is None:
            plot.plot(range(len(ys)), [*ys[:-1], FAILED], color=GREY, linestyle="--", linewidth=1)
        else:
            plot.plot(range(len(ys)), ys, color=_colours()(ys[-1]), linewidth=1.8, alpha=0.9)


def _colours() -> Colormap:
    """Viridis without its end that is too bright for a white page."""
    return ListedColormap(colormaps["viridis"].resampled(256)(range(220)))


def _draw_axis(plot: Axes, x: int, axis: Axis) -> None:
    plot.plot([x, x], [0, 1], color="black", linewidth=1)
    plot.text(x, 1.08, axis.name, ha="center", va="center", weight="bold", fontsize=9)
    for y, text in axis.ticks:
        plot.plot([x - 0.02, x + 0.02], [y, y], color="black", linewidth=1)
        shown = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1}
        plot.text(x + 0.05, y, shown, va="center", fontsize=9, bbox=box)
