"""Discovery of finished runs: reidlit run folders and Torchreid logs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reidlit.compat.torchreid.logs import is_log, read_log
from reidlit.foreign_files import expanded, reading
from reidlit.runs.run_folder import HYDRA, METRICS, RunFolder

SCORED_COMMANDS = ("train", "test")  # the commands that write metrics.json
EXPECTED = "pass folders of `reidlit train` or `reidlit test`, or log folders of Torchreid."


@dataclass(frozen=True)
class FinishedRun:
    """Settings and results of one run.

    Attributes:
        path: Folder of the run, or its log file.
        command: Name of the command, such as `train`.
        settings: Command-line settings by name.
        metrics: Metrics by flat name, as in `metrics.json`.
    """

    path: Path
    command: str
    settings: Mapping[str, str]
    metrics: Mapping[str, Any]


def find_runs(folders: Sequence[str]) -> tuple[list[FinishedRun], list[str]]:
    """Find all runs below the folders, at any depth and without duplicates.

    Args:
        folders: Paths of the folders to search.

    Returns:
        The finished runs sorted by path, and one remark for each skipped run.

    Raises:
        FileNotFoundError: If a folder does not exist.
        ValueError: If a folder contains no run with scores, or a run cannot be read.
    """
    if not folders:
        raise ValueError(f"runs=[] is empty: {EXPECTED}")
    entries: dict[Path, FinishedRun | str] = {}
    for name in folders:
        folder = expanded(name)
        if not folder.is_dir():
            raise FileNotFoundError(f"runs={name} is not a folder: {EXPECTED}")
        new_entries = dict(_entries_below(folder))
        if not any(isinstance(entry, FinishedRun) for entry in new_entries.values()):
            skipped = "".join(f"\n{remark}" for remark in new_entries.values())
            raise ValueError(f"runs={name} contains no run with scores: {EXPECTED}{skipped}")
        entries = new_entries | entries
    runs = [entry for entry in entries.values() if isinstance(entry, FinishedRun)]
    remarks = [entry for entry in entries.values() if isinstance(entry, str)]
    return sorted(runs, key=lambda run: run.path), sorted(remarks)


def _entries_below(top: Path) -> Iterator[tuple[Path, FinishedRun | str]]:
    """Yield each run with its resolved path, or a remark if the run is skipped."""
    for name, folders, files in os.walk(top):
        folder = Path(name)
        if HYDRA in folders:
            entry = _read(RunFolder(folder))
            if entry is not None:
                yield folder.resolve(), entry
        elif METRICS in files:
            yield folder.resolve(), f"{folder} was skipped: {HYDRA}/ is missing, so its settings are unknown."
        for log in (name for name in filter(is_log, files) if _is_own(folder / name, top)):
            yield (folder / log).resolve(), _read_torchreid(folder / log, top)


def _read(folder: RunFolder) -> FinishedRun | str | None:
    try:
        command, overrides, metrics = folder.command(), folder.overrides(), folder.metrics()
    except ValueError as error:
        raise ValueError(f"runs: {error} Exclude this run or repeat it.") from error
    if metrics is not None:
        return FinishedRun(folder.path, command, overrides, metrics)
    if command in SCORED_COMMANDS:
        return f"{folder.path} was skipped: {METRICS} is missing, so the run failed or has not finished."
    return None


def _is_own(log: Path, top: Path) -> bool:
    """Return True for a regular file that is not a link out of the searched folder."""
    return log.is_file() and log.resolve().is_relative_to(top.resolve())


def _read_torchreid(log: Path, top: Path) -> FinishedRun | str:
    """Read a Torchreid log. If it contains no settings, the folder serves as its only setting."""
    with reading(log, "Exclude this log."):
        settings, metrics = read_log(log)
    if not metrics:
        return f"{log} was skipped: it contains no results."
    return FinishedRun(log, f"torchreid {log.name.partition('.')[0]}", settings or {"folder": str(top)}, metrics)
