"""`reidlit aggregate`: mean, standard deviation and confidence interval of the metrics of several runs."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.box import SIMPLE
from rich.table import Table

from reidlit.commands._settings import current_run, plain
from reidlit.console import say, show
from reidlit.files import write_json
from reidlit.runs.finished import FinishedRun, find_runs
from reidlit.runs.result_tables import IN_PERCENT
from reidlit.runs.statistics import RunStatistics, run_statistics
from reidlit.tables import write_rows

LEVEL = 0.95
# Runs of a group may differ in these settings: seeds, splits and paths.
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
# Torchreid logs all its settings. A title shows these, and those that differ between groups.
TORCHREID_TITLE = ("model.name", "loss.name", "data.sources", "data.targets")


@dataclass(frozen=True)
class Group:
    """Runs of the same command, settings and protocols.

    Attributes:
        command: Command of the runs, such as `train`.
        settings: Settings that all runs share.
        protocols: Descriptions of the evaluation protocols, one line each.
        repeated: Number of values of each setting that differs between the runs.
        runs: Runs in the order of their paths.
        statistics: Statistics of each scalar metric, over the runs that have it.
    """

    command: str
    settings: Mapping[str, str]
    protocols: Sequence[str]
    repeated: Mapping[str, int]
    runs: Sequence[FinishedRun]
    statistics: Mapping[str, RunStatistics]


def run(cfg: DictConfig) -> None:
    """Print a table of each group of runs, and write `aggregate.json` and `aggregate.csv`.

    Raises:
        FileNotFoundError: If a folder of `runs` does not exist.
        ValueError: If a folder contains no run with scores, or runs with equal settings have different metrics.
    """
    settings = plain(cfg)
    runs, remarks = find_runs(_names("runs", settings["runs"]))
    ignored = REPEATED if settings["by"] is None else _names("by", settings["by"])
    if settings["by"] is not None:
        keys = {key for each in runs for key in each.settings}
        unused = [name for name in ignored if not any(fnmatch(key, name) for key in keys)]
        remarks += [f"by={name} has no effect: no run sets it." for name in unused]
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
    """Return a name or a list of names as a list.

    Raises:
        ValueError: If `value` is neither.
    """
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{key}={value} is invalid: must be a name or a list of names.")
    return names


def group_runs(runs: Sequence[FinishedRun], ignored: Sequence[str]) -> list[Group]:
    """Group the runs that differ only in ignored settings.

    Args:
        runs: Runs to group.
        ignored: Names of settings; wildcards such as `data.*` are allowed.

    Raises:
        ValueError: If runs of a group have different metrics.
    """
    groups = defaultdict(list)
    for each in runs:
        kept = {key: value for key, value in each.settings.items() if not any(fnmatch(key, name) for name in ignored)}
        protocols = {str(value): None for key, value in each.metrics.items() if key.endswith("/protocol")}
        groups[each.command, tuple(sorted(kept.items())), tuple(protocols)].append(each)
    return [
        Group(command, dict(kept), protocols, _repeated(members), members, _statistics(members))
        for (command, kept, protocols), members in sorted(groups.items())
    ]


def _repeated(runs: Sequence[FinishedRun]) -> dict[str, int]:
    """Return the number of values of each setting that differs; a missing setting counts as a value."""
    keys = dict.fromkeys(key for each in runs for key in each.settings)
    values = {key: len({each.settings.get(key) for each in runs}) for key in keys}
    return {key: number for key, number in values.items() if number > 1}


def _statistics(runs: Sequence[FinishedRun]) -> dict[str, RunStatistics]:
    """Return the statistics of each scalar metric."""
    first, *others = runs
    for other in others:
        if differing := sorted(first.metrics.keys() ^ other.metrics.keys()):
            raise ValueError(
                f"runs={first.path} and runs={other.path} have the same settings but different metrics: only one of "
                f"them contains {', '.join(differing)}. Omit one of the runs."
            )
    values = {name: [each.metrics[name] for each in runs] for name in first.metrics}
    scalars = {name: [value for value in column if _is_scalar(value)] for name, column in values.items()}
    return {name: run_statistics(column, LEVEL) for name, column in scalars.items() if column}


def _is_scalar(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def titles(groups: Sequence[Group]) -> list[str]:
    """Return the command and the settings of each group; for Torchreid only those that characterize it."""
    lines = []
    for group in groups:
        shown = group.settings
        if group.command.startswith("torchreid"):
            comparable = [other.settings for other in groups if other.command == group.command]
            shown = {
                key: value
                for key, value in shown.items()
                if key in (*TORCHREID_TITLE, "folder") or any(other.get(key) != value for other in comparable)
            }
        lines.append(" ".join([group.command, *(f"{key}={value}" for key, value in shown.items())]))
    return lines


def print_group(group: Group, title: str) -> None:
    """Print a row for each metric; fractions are printed in percent."""
    headings = ("metric", "runs", "mean", "std", f"{100 * LEVEL:g}% interval")
    table = Table(*headings, box=SIMPLE, pad_edge=False, collapse_padding=True)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, statistics in group.statistics.items():
        in_percent = name.rpartition("/")[2] in IN_PERCENT
        mean, std, low, high = (f"{100 * x:.2f}" if in_percent else f"{x:.6g}" for x in statistics[1:])
        spread = (std, f"{low} to {high}") if statistics.n > 1 else ("", "")
        table.add_row(f"{name} (%)" if in_percent else name, str(statistics.n), mean, *spread)
    say(f"\n{title}")
    show(table)
    for protocol in group.protocols:
        say(protocol)
    differing = ", ".join(f"{key} ({number} values)" for key, number in group.repeated.items())
    say(f"{len(group.runs)} run{'s' * (len(group.runs) > 1)}" + (f", differing in {differing}" if differing else ""))


def _as_dict(group: Group) -> dict[str, Any]:
    return {
        "command": group.command,
        "settings": dict(group.settings),
        "protocols": list(group.protocols),
        "repeated": dict(group.repeated),
        "runs": [str(each.path) for each in group.runs],
        "metrics": {
            name: {key: None if math.isnan(value) else value for key, value in statistics._asdict().items()}
            for name, statistics in group.statistics.items()
        },
    }


def _write_csv(file: Path, groups: Sequence[Group]) -> None:
    """Write a row for each group and metric; NaN becomes an empty cell."""
    rows = [
        [title, name, *("" if math.isnan(value) else value for value in statistics)]
        for group, title in zip(groups, titles(groups), strict=True)
        for name, statistics in group.statistics.items()
    ]
    write_rows(file, ["group", "metric", *RunStatistics._fields], rows)
