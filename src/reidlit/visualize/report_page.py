"""The report of a run: one HTML page that needs no server, no network and no other file."""

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

HEIGHT, WIDTH = 128, 64  # of a picture, in pixels
QUALITY = 80


class Plot(NamedTuple):
    """A figure: an `<svg>` element, and what it shows in words for those who do not see it."""

    title: str
    svg: str
    description: str


class QueryResult(NamedTuple):
    """A query with its nearest gallery images; `ap` is a fraction, `first_match` a rank from 1."""

    dataset: str
    path: str
    pid: int
    camid: int
    ap: float
    first_match: int
    answers: Sequence[ListedImage]


class Confusion(NamedTuple):
    """Two identities of which one was listed first for queries of the other, how often, and the nearest such pair."""

    dataset: str
    pid: int
    other: int
    times: int
    query: str
    answer: str
    distance: float


class Report(NamedTuple):
    """What the page shows.

    Attributes:
        title: of the page.
        facts: short ones of the run, by name.
        results: a table, a row each: the name of the figure, and a cell for each test set.
        result_names: of the test sets.
        remarks: on the results, and on what is missing in the page.
        plots: the figures, by heading.
        queries: that can be looked through.
        confusions: most frequent first.
        sizes: of the datasets: rows of dataset, part, identities, images and cameras.
        config: the run's configuration as YAML.
        environment: names and versions.
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
    """Write the page, whole or not at all.

    Args:
        report: what it shows.
        path: the .html file.
        read: path -> (H, W, 3) uint8 RGB, such as `blurring(decode)`. What it cannot read is shown as a grey picture.

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
    """The name of a file and of its folder; where it lies on whose machine is nobody's business."""
    return readable("/".join(Path(file).parts[-2:]))


def _data_url(file: str, read: Read) -> str:
    """A small JPEG inside the page."""
    try:
        image = Image.fromarray(read(file)).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    except (OSError, ValueError):
        image = Image.new("RGB", (WIDTH, HEIGHT), (128, 128, 128))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"
