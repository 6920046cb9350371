"""`reidlit doctor`: check a dataset before training."""

from collections.abc import Iterator, Sequence

from omegaconf import DictConfig
from rich.table import Table
from rich.text import Text

from reidlit.commands._data import build_datamodule
from reidlit.commands._settings import current_run
from reidlit.console import say, show
from reidlit.data.datamodule import ReIDDataModule, count
from reidlit.data.doctor import SEVERITIES, Entry, Examination, Finding, Severity, examine
from reidlit.data.image_statistics import Spread
from reidlit.escaping import for_terminal
from reidlit.files import write_json
from reidlit.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from reidlit.visualize.contact_sheet import choose_rows, draw_contact_sheet

SHOWN = 10  # printed cases per finding
SHOWN_PATHS = 2  # printed paths per case
STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def run(cfg: DictConfig) -> None:
    """Print the findings of each dataset, write all of them to `doctor.json`, and draw contact sheets.

    Raises:
        ValueError: If a dataset has errors, or a setting is out of range.
    """
    rows, images = cfg.contact_sheet.identities, cfg.contact_sheet.images
    for setting, value, least in (("identities", rows, 0), ("images", images, 1)):
        if value < least:
            raise ValueError(f"contact_sheet.{setting}={value} is invalid: must be at least {least}.")
    datamodule = build_datamodule(cfg)
    datamodule.prepare_data()
    report = []
    errors = 0
    for position, part in enumerate(datamodule.parts, start=1):
        examination = examine(part, decode=cfg.decode)
        errors += examination.number("error")
        metadata = {name: getattr(part, name) for name in ("name", "licence", "paper")} | {"notice": part.usage_notice}
        report.append({**metadata, "directory": str(part.directory), **examination.as_dict()})
        print_examination(part, examination)
        if chosen := choose_rows(examination.samples, rows, images, cfg.seed, part.junk_pids):
            name = "contact_sheet.png" if len(datamodule.parts) == 1 else f"contact_sheet_{position}.png"
            title = f"{part.name}, random identities, seed={cfg.seed}"
            say(f"contact sheet: {draw_contact_sheet(chosen, current_run().path / name, title, part.read)}")
    path = current_run().path / "doctor.json"
    write_json(path, {"datasets": report})
    say(f"all findings: {path}")
    if errors:
        raise ValueError(
            f"data={datamodule.name} has {_plural(errors, 'error')}: training or testing would fail or give "
            "meaningless results. Fix the errors listed above and run the command again."
        )


def print_examination(datamodule: ReIDDataModule, examination: Examination) -> None:
    """Print the tables, and the findings with their first cases."""
    if examination.samples:
        show(_splits(datamodule, examination))
    if examination.sizes:
        show(_sizes(examination))
    if examination.pixels:
        show(_pixels(examination.pixels.mean, examination.pixels.std))
    for text in (datamodule.usage_notice, f"license: {datamodule.licence}", f"paper: {datamodule.paper}"):
        if text:
            say(text)
    say("")
    for finding in examination.findings:
        for line in _lines(finding):
            say(line)
    say(", ".join(_plural(examination.number(severity), severity) for severity in SEVERITIES))


def _splits(datamodule: ReIDDataModule, examination: Examination) -> Table:
    table = Table(title=f"{datamodule.name} in {datamodule.directory}")
    for heading in ("split", "identities", datamodule.item_name, "cameras", "published"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, samples in examination.samples.items():
        counted, published = count(samples), examination.published.get(split)
        if published is None:
            verdict = "-"
        else:
            verdict = "matches" if counted.agrees(published) else " / ".join(str(n or "?") for n in published)
        table.add_row(split, *map(str, counted), verdict)
    return table


def _sizes(examination: Examination) -> Table:
    table = Table(title="Image sizes: minimum, median, maximum")
    for heading in ("split", "height", "width", "height / width"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, (height, width, aspect) in examination.sizes.items():
        table.add_row(split, _spread(height, "g"), _spread(width, "g"), _spread(aspect, ".2f"))
    return table


def _spread(spread: Spread, form: str) -> str:
    return "  ".join(format(value, form) for value in spread)


def _pixels(mean: Sequence[float], std: Sequence[float]) -> Table:
    table = Table(title="Training pixels (0 to 1): red, green, blue")
    for heading in ("", "dataset", "ImageNet"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, dataset, imagenet in (("mean", mean, IMAGENET_MEAN), ("standard deviation", std, IMAGENET_STD)):
        table.add_row(name, *("  ".join(f"{value:.3f}" for value in values) for values in (dataset, imagenet)))
    return table


def _lines(finding: Finding) -> Iterator[Text]:
    """Yield the lines of a finding: its message and its first cases."""
    yield Text.assemble((f"{finding.severity}: ", STYLES[finding.severity]), for_terminal(finding.message))
    for entry in finding.entries[:SHOWN]:
        yield Text(for_terminal(f"    {_case(entry)}"))
    if len(finding.entries) > SHOWN:
        yield Text(f"    and {len(finding.entries) - SHOWN} more in doctor.json")


def _case(entry: Entry) -> str:
    paths = list(entry.paths[:SHOWN_PATHS])
    if len(entry.paths) > SHOWN_PATHS:
        paths.append(f"and {len(entry.paths) - SHOWN_PATHS} more")
    return f"{entry.about}: {', '.join(paths)}"


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
