"""Report of a run as a self-contained HTML page."""

import base64
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from reidlit.data.decode import decode
from reidlit.data.images import Read
from reidlit.data.sample import readable
from reidlit.files import atomic_write
from reidlit.visualize.ranked_list import ListedImage

HEIGHT, WIDTH = 128, 64  # size of an image in pixels
QUALITY = 80


class Plot(NamedTuple):
    """Plot of the page.

    Attributes:
        title: Title of the plot.
        svg: `<svg>` element.
        description: Text alternative for screen readers.
    """

    title: str
    svg: str
    description: str


class QueryResult(NamedTuple):
    """Query with its nearest gallery images.

    Attributes:
        dataset: Name of the test set.
        path: Path of the query.
        pid: Identity of the query.
        camid: Camera of the query, negative if unknown.
        ap: Average precision as a fraction.
        first_match: Rank of the first match, from 1.
        answers: Nearest gallery images.
    """

    dataset: str
    path: str
    pid: int
    camid: int
    ap: float
    first_match: int
    answers: Sequence[ListedImage]


class Confusion(NamedTuple):
    """Pair of identities that are confused: an image of one is rank 1 for queries of the other.

    Attributes:
        dataset: Name of the test set.
        pid: Smaller pid of the pair.
        other: Larger pid of the pair.
        times: Number of such queries.
        query: Path of the query with the smallest distance.
        answer: Path of the gallery image at rank 1 of that query.
        distance: Distance between the two images.
    """

    dataset: str
    pid: int
    other: int
    times: int
    query: str
    answer: str
    distance: float


class Report(NamedTuple):
    """Contents of the page.

    Attributes:
        title: Title of the page.
        facts: Main results by name.
        results: Rows of the result table: name of the metric, and one cell per test set.
        result_names: Names of the test sets.
        remarks: Remarks on the results and on missing contents.
        plots: Plots by heading.
        queries: Queries that can be browsed.
        confusions: Confused identities, most frequent first.
        sizes: Rows of dataset, split, identities, images and cameras.
        config: Configuration of the run as YAML.
        environment: Hardware and package versions by name.
    """

    title: str
    facts: Mapping[str, str]
    results: Sequence[Sequence[str]]
    result_names: Sequence[str]
    remarks: Sequence[str]
    plots: Mapping[str, Sequence[Plot]]
    queries: Sequence[QueryResult]
    confusions: Sequence[Confusion]
    sizes: Sequence[Sequence[str]]
    config: str
    environment: Mapping[str, str]


def write_report(report: Report, path: Path, read: Read = decode) -> Path:
    """Write the page atomically.

    Args:
        report: Contents of the page.
        path: Output file (.html).
        read: Function from a path to an image (H, W, 3) uint8 RGB. Unreadable images are shown in gray.

    Returns:
        `path`.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pictures: dict[str, str] = {}

    def picture(file: str) -> str:
        if file not in pictures:
            pictures[file] = _data_url(file, read)
        return pictures[file]

    environment.filters |= {"picture": picture, "camera": _camera, "short": _short, "svg": Markup}
    template = environment.from_string(files("reidlit.visualize").joinpath("report.html").read_text(encoding="utf-8"))
    text = template.render(
        report=report,
        cameras=sorted({query.camid for query in report.queries}),
        datasets=sorted({query.dataset for query in report.queries}),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, text.encode("utf-8"))
    return path


def _camera(camid: int) -> str:
    return f"camera {camid + 1}" if camid >= 0 else "no camera"


def _short(file: str) -> str:
    """Return the names of a file and of its folder; the page must not reveal full paths."""
    return readable("/".join(Path(file).parts[-2:]))


def _data_url(file: str, read: Read) -> str:
    """Return a small JPEG as a data URL."""
    try:
        image = Image.fromarray(read(file)).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    except (OSError, ValueError):
        image = Image.new("RGB", (WIDTH, HEIGHT), (128, 128, 128))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
