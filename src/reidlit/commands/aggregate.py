"""`reidlit aggregate`: mean and spread of several runs."""

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from reidlit.commands._settings import current_run, plain
from reidlit.console import say
from reidlit.files import write_json
from reidlit.runs.finished import FinishedRun, find_runs
from reidlit.runs.result_tables import IN_PERCENT
from reidlit.runs.statistics import RunStatistics, run_statistics

LEVEL = 0.95
# The settings that the runs of a group may differ in: seeds, splits, and where files lie.
SEEDS = ("seed", "train.seed", "*.split_id", "*.split_seed")
PATHS = (
    "hydra.*",
    "*.root",
    "*_path",
    "*_dir",
    "*.dirpath",
    "weights",
    "features",
    "model.load_weights",
    "model.resume",
)
REPEATED = (*SEEDS, *PATHS)
# Torchreid prints all its settings; in a title these tell what was run, beside those that differ.
TORCHREID_TITLE = ("model.name", "loss.name", "data.sources", "data.targets")


@dataclass(frozen=True)
class Group:
    """Runs of the same command, settings and protocols.

    Attributes:
        command: What was run.
        settings: What all were told.
        protocols: How they were scored, a line each.
        repeated: How many values there are of each setting that differs.
        runs: In the order of their paths.
        spreads: Each scalar of their metrics over those runs that know it.
    """

    command: str
    settings: Mapping[str, str]
    protocols: Sequence[str]
    repeated: Mapping[str, int]
    runs: Sequence[FinishedRun]
    spreads: Mapping[str, RunStatistics]


def run(cfg: DictConfig) -> None:
    """Print a table of each group of runs, and write `aggregate.json` and `aggregate.csv`.

    Raises:
        FileNotFoundError: if a folder is not there.
        ValueError: if there is no run with scores in a folder, or runs cannot be put together.
    """
    settings = plain(cfg)
    runs, remarks = find_runs(_names("runs", settings["runs"]))
    ignored = REPEATED if settings["by"] is None else _names("by", settings["by"])
    if settings["by"] is not None:
        told = {key for each in runs for key in each.settings}
        remarks += [f"by={name}: no run was given it." for name in ignored if not any(fnmatch(t, name) for t in told)]
    groups = group_runs(runs, ignored)
    for group, title in zip(groups, titles(groups), strict=True):
        print_group(group, title)
    for remark in remarks:
        say(remark)
    files = [current_run().path / name for name in ("aggregate.json", "aggregate.csv")]
    write_json(files[0], {"level": LEVEL, "groups": [_as_dict(group) for group in groups], "remarks": remarks})
    _write_csv(files[1], groups)
    for file in files:
        say(f"aggregate: {file}")


def _names(key: str, value: Any) -> list[str]:
    """A list of names, which may be a single one.

    Raises:
        ValueError: if it is neither.
    """
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{key}={value} must be a list of names.")
    return names


def group_runs(runs: Sequence[FinishedRun], ignored: Sequence[str]) -> list[Group]:
    """Put together the runs that differ in nothing but the ignored settings.

    Args:
        runs: The runs.
        ignored: Names of settings, or patterns of them.

    Raises:
        ValueError: if runs of a group have different metrics.
    """
    found = defaultdict(list)
    for each in runs:
        kept = {key: value for key, value in each.settings.items() if not any(fnmatch(key, name) for name in ignored)}
        protocols = {str(value): None for key, value in each.metrics.items() if key.endswith("/protocol")}
        found[each.command, tuple(sorted(kept.items())), tuple(protocols)].append(each)
    return [
        Group(command, dict(kept), protocols, _repeated(members), members, _spreads(members))
        for (command, kept, protocols), members in sorted(found.items())
    ]


def _repeated(runs: Sequence[FinishedRun]) -> dict[str, int]:
    """The settings that differ between runs; one that is not given has its default, which counts as a value."""
    keys = dict.fromkeys(key for each in runs for key in each.settings)
    values = {key: len({each.settings.get(key) for each in runs}) for key in keys}
    return {key: number for key, number in values.items() if number > 1}


def _spreads(runs: Sequence[FinishedRun]) -> dict[str, RunStatistics]:
    first, *others = runs
    for other in others:
        if differing := sorted(first.metrics.keys() ^ other.metrics.keys()):
            raise ValueError(
                f"runs: {first.path} and {other.path} have the same settings but not the same metrics: "
                f"only one has {', '.join(differing)}. Leave one out, or tell with by=[...] what else may differ."
            )
    values = {name: [each.metrics[name] for each in runs] for name in first.metrics}
    known = {name: [value for value in column if _is_scalar(value)] for name, column in values.items()}
    return {name: run_statistics(column, LEVEL) for name, column in known.items() if column}


def _is_scalar(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def titles(groups: Sequence[Group]) -> list[str]:
    """The command and settings of each group; of Torchreid's only those that tell."""
    found = []
    for group in groups:
        told = group.settings
        if group.command.startswith("torchreid"):
            alike = [other.settings for other in groups if other.command == group.command]
            told = {
                key: value
                for key, value in told.items()
                if key in (*TORCHREID_TITLE, "folder") or any(other.get(key) != value for other in alike)
            }
        found.append(" ".join([group.command, *(f"{key}={value}" for key, value in told.items())]))
    return found


def print_group(group: Group, title: str) -> None:
    """Print a row for each metric, in percent where it is a fraction."""
    table = Table(
        "", "runs", "mean", "std", f"{100 * LEVEL:g} % interval", box=SIMPLE, pad_edge=False, collapse_padding=True
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for name, figure in group.spreads.items():
        in_percent = name.rpartition("/")[2] in IN_PERCENT
        mean, std, low, high = (f"{100 * x:.2f}" if in_percent else f"{x:.6g}" for x in figure[1:])
        several = (std, f"{low} to {high}") if figure.n > 1 else ("", "")
        table.add_row(f"{name}, %" if in_percent else name, str(figure.n), mean, *several)
    say(f"\n{title}")
    Console().print(table)
    for protocol in group.protocols:
        say(protocol)
    differing = ", ".join(f"{key} ({number} values)" for key, number in group.repeated.items())
    say(f"{len(group.runs)} run{'s' * (len(group.runs) > 1)}" + (f", over {differing}" if differing else ""))


def _as_dict(group: Group) -> dict[str, Any]:
    return {
        "command": group.command,
        "settings": dict(group.settings),
        "protocols": list(group.protocols),
        "repeated": dict(group.repeated),
        "runs": [str(each.path) for each in group.runs],
        "metrics": {
            name: {key: None if math.isnan(value) else value for key, value in figure._asdict().items()}
            for name, figure in group.spreads.items()
        },
    }


def _write_csv(file: Path, groups: Sequence[Group]) -> None:
    """A row for each group and metric, with an empty cell for what is not known."""
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["group", "metric", *RunStatistics._fields])
        for group, title in zip(groups, titles(groups), strict=True):
            for name, figure in group.spreads.items():
                writer.writerow([title, name, *("" if math.isnan(value) else value for value in figure)])
