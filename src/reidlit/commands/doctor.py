"""`reidlit doctor`: examine a dataset before training on it."""

from collections.abc import Iterator, Sequence

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reidlit.commands._data import build_datamodule
from reidlit.commands._settings import current_run
from reidlit.console import say
from reidlit.data.datamodule import ReIDDataModule, count
from reidlit.data.doctor import SEVERITIES, Entry, Examination, Finding, Severity, examine
from reidlit.data.image_statistics import Spread
from reidlit.files import write_json
from reidlit.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from reidlit.visualize.contact_sheet import choose_rows, draw_contact_sheet

SHOWN = 10  # cases of a finding that are printed
SHOWN_PATHS = 2  # files of a case that are printed
STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def run(cfg: DictConfig) -> None:
    """Print what was found out about each dataset; write all of it to `doctor.json` and draw contact sheets.

    Raises:
        ValueError: if training or testing on it would fail or mean nothing, or if a number is out of range.
    """
    rows, images = cfg.contact_sheet.identities, cfg.contact_sheet.images
    if rows < 0 or images < 1:
        raise ValueError(
            f"contact_sheet.identities={rows} must be 0 or more, contact_sheet.images={images} must be 1 or more."
        )
    datamodule = build_datamodule(cfg)
    datamodule.prepare_data()
    report = []
    errors = 0
    for position, part in enumerate(datamodule.parts, start=1):
        found = examine(part, decode=cfg.decode)
        errors += found.number("error")
        about = {name: getattr(part, name) for name in ("name", "licence", "paper")} | {"notice": part.usage_notice}
        report.append({**about, "directory": str(part.directory), **found.as_dict()})
        print_examination(part, found)
        if chosen := choose_rows(found.samples, rows, images, cfg.seed, part.junk_pids):
            name = "contact_sheet.png" if len(datamodule.parts) == 1 else f"contact_sheet_{position}.png"
            title = f"{part.name}, drawn with seed={cfg.seed}"
            say(f"contact sheet: {draw_contact_sheet(chosen, current_run().path / name, title, part.read)}")
    path = current_run().path / "doctor.json"
    write_json(path, {"datasets": report})
    say(f"all cases: {path}")
    if errors:
        raise ValueError(
            f"data={datamodule.name}: {_plural(errors, 'error')}; training or testing would fail or mean nothing. "
            "Mend what is listed above and run this again."
        )


def print_examination(datamodule: ReIDDataModule, found: Examination) -> None:
    """Print the tables and the findings, with the first cases of each."""
    console = Console()
    if found.samples:
        console.print(_splits(datamodule, found))
    if found.sizes:
        console.print(_sizes(found))
    if found.pixels:
        console.print(_pixels(found.pixels.mean, found.pixels.std))
    for text in (datamodule.usage_notice, f"licence: {datamodule.licence}", f"paper: {datamodule.paper}"):
        if text:
            say(text)
    say("")
    for finding in found.findings:
        for line in _lines(finding):
            console.print(line, soft_wrap=True)
    say(", ".join(_plural(found.number(severity), severity) for severity in SEVERITIES))


def _splits(datamodule: ReIDDataModule, found: Examination) -> Table:
    table = Table(title=f"{datamodule.name} in {_printable(str(datamodule.directory))}")
    for heading in ("split", "identities", datamodule.item_name, "cameras", "published"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, samples in found.samples.items():
        have, published = count(samples), found.published.get(split)
        if published is None:
            verdict = "-"
        else:
            verdict = "as published" if have.agrees(published) else " / ".join(str(n or "?") for n in published)
        table.add_row(split, *map(str, have), verdict)
    return table


def _sizes(found: Examination) -> Table:
    table = Table(title="sizes: least, median, most")
    for heading in ("split", "height", "width", "height / width"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, (height, width, aspect) in found.sizes.items():
        table.add_row(split, _spread(height, "g"), _spread(width, "g"), _spread(aspect, ".2f"))
    return table


def _spread(spread: Spread, form: str) -> str:
    return "  ".join(format(value, form) for value in spread)


def _pixels(mean: Sequence[float], std: Sequence[float]) -> Table:
    table = Table(title="training pixels, from 0 to 1: red, green, blue")
    for heading in ("", "here", "ImageNet"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, here, imagenet in (("mean", mean, IMAGENET_MEAN), ("standard deviation", std, IMAGENET_STD)):
        table.add_row(name, *("  ".join(f"{value:.3f}" for value in values) for values in (here, imagenet)))
    return table


def _lines(finding: Finding) -> Iterator[Text]:
    """A finding for the terminal: what it is, and its first cases."""
    yield Text.assemble((f"{finding.severity}: ", STYLES[finding.severity]), _printable(finding.message))
    for entry in finding.entries[:SHOWN]:
        yield Text(f"    {_case(entry)}")
    if len(finding.entries) > SHOWN:
        yield Text(f"    and {len(finding.entries) - SHOWN} more in doctor.json")


def _case(entry: Entry) -> str:
    paths = [_printable(path) for path in entry.paths[:SHOWN_PATHS]]
    if len(entry.paths) > SHOWN_PATHS:
        paths.append(f"and {len(entry.paths) - SHOWN_PATHS} more")
    return f"{entry.about}: {', '.join(paths)}"


def _printable(text: str) -> str:
    """The same with escapes for what a terminal cannot show or would obey."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number or 'no'} {word}s"
