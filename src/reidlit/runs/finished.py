"""Finished runs below given folders: those of reidlit, and logs of Torchreid."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reidlit.compat.torchreid.logs import is_log, read_log
from reidlit.runs.run_folder import HYDRA, METRICS, RunFolder

SCORED_COMMANDS = ("train", "test")  # the commands that write metrics.json
EXPECTED = "give folders of reidlit train or test, or log folders of Torchreid."


@dataclass(frozen=True)
class FinishedRun:
    """Settings and results of one run.

    Attributes:
        path: Its folder, or its log.
        command: What was run, such as `train`.
        settings: Settings that it was started with, by name.
        metrics: Results by flat name, as in `metrics.json`.
    """

    path: Path
    command: str
    settings: Mapping[str, str]
    metrics: Mapping[str, Any]


def find_runs(folders: Sequence[str]) -> tuple[list[FinishedRun], list[str]]:
    """Return the runs in the folders at any depth, each once, and a remark on each that is not counted.

    Raises:
        FileNotFoundError: If a folder does not exist.
        ValueError: If a folder contains no run with scores, or a run cannot be read.
    """
    if not folders:
        raise ValueError(f"runs=[] names no folder: {EXPECTED}")
    entries: dict[Path, FinishedRun | str] = {}
    for name in folders:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"runs={name} is not a folder: {EXPECTED}")
        below = dict(_entries_below(folder))
        if not any(isinstance(entry, FinishedRun) for entry in below.values()):
            unfinished = "".join(f"\n{remark}" for remark in below.values())
            raise ValueError(f"runs={name} contains no run with scores: {EXPECTED}{unfinished}")
        entries = below | entries
    runs = [entry for entry in entries.values() if isinstance(entry, FinishedRun)]
    remarks = [entry for entry in entries.values() if isinstance(entry, str)]
    return sorted(runs, key=lambda run: run.path), sorted(remarks)


def _entries_below(top: Path) -> Iterator[tuple[Path, FinishedRun | str]]:
    """Yield each run by its resolved path, or a remark if it is not counted."""
    for name, folders, files in os.walk(top):
        folder = Path(name)
        if HYDRA in folders:
            entry = _read(RunFolder(folder))
            if entry is not None:
                yield folder.resolve(), entry
        elif METRICS in files:
            yield folder.resolve(), f"{folder} is not counted: without {HYDRA}/ its settings are unknown."
        for log in filter(is_log, files):
            yield (folder / log).resolve(), _read_torchreid(folder / log, top)


def _read(folder: RunFolder) -> FinishedRun | str | None:
    try:
        command, overrides, metrics = folder.command(), folder.overrides(), folder.metrics()
    except ValueError as error:
        raise ValueError(f"runs: {error} Leave this run out, or run it again.") from error
    if metrics is not None:
        return FinishedRun(folder.path, command, overrides, metrics)
    if command in SCORED_COMMANDS:
        return f"{folder.path} is not counted: it left no {METRICS}, so it failed or still runs."
    return None


def _read_torchreid(log: Path, top: Path) -> FinishedRun | str:
    """Read a log of Torchreid; the folder stands for settings that it does not contain."""
    settings, metrics = read_log(log)
    if not metrics:
        return f"{log} is not counted: there are no results in it."
    return FinishedRun(log, f"torchreid {log.name.partition('.')[0]}", settings or {"folder": str(top)}, metrics)
