"""What finished runs have left: ours, and the logs of Torchreid."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

SCORED = ("train", "test")  # the commands that leave metrics.json
WAY_OUT = "give folders of reidlit train or test, or log folders of Torchreid."

TORCHREID_LOG = re.compile(r"(train|test)\.log.*")
TORCHREID_DATASET = re.compile(r"##### Evaluating (\S+) ")
TORCHREID_SETTING = re.compile(r"( *)([^ :]+): *(.*)")
TORCHREID_FIGURE = re.compile(r"(?:(mAP)|Rank-(\d+)) *: *(\S+)%")


@dataclass(frozen=True)
class Run:
    """What one run has left.

    Attributes:
        path: Its folder, or its log.
        command: What was run, such as `train`.
        settings: What it was told, by name.
        metrics: As in `metrics.json`; figures are fractions, or None where they cannot be computed.
    """

    path: Path
    command: str
    settings: Mapping[str, str]
    metrics: Mapping[str, Any]


def find_runs(folders: Sequence[str]) -> tuple[list[Run], list[str]]:
    """The runs in the folders at any depth, each once, and a remark on each that does not count.

    Raises:
        FileNotFoundError: if a folder is not there.
        ValueError: if there is no run with scores in one.
    """
    if not folders:
        raise ValueError(f"runs=[] names no folder: {WAY_OUT}")
    found: dict[Path, Run | str] = {}
    for name in folders:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"runs={name} is no folder: {WAY_OUT}")
        here = dict(_runs_below(folder))
        if not any(isinstance(each, Run) for each in here.values()):
            unfinished = "".join(f"\n{remark}" for remark in here.values())
            raise ValueError(f"runs={name} holds no run with scores: {WAY_OUT}{unfinished}")
        found = here | found
    runs = [each for each in found.values() if isinstance(each, Run)]
    remarks = [each for each in found.values() if isinstance(each, str)]
    return sorted(runs, key=lambda each: each.path), sorted(remarks)


def _runs_below(top: Path) -> Iterator[tuple[Path, Run | str]]:
    """Each run by its resolved path, or what to say if it does not count."""
    for name, folders, files in os.walk(top):
        folder = Path(name)
        scored = "metrics.json" in files
        if ".hydra" in folders:
            command, settings = _told(folder / ".hydra")
            if scored:
                yield folder.resolve(), Run(folder, command, settings, _metrics(folder / "metrics.json"))
            elif command in SCORED:
                yield folder.resolve(), f"{folder} is not counted: it left no metrics.json, so it failed or still runs."
        elif scored:
            yield folder.resolve(), f"{folder} is not counted: without .hydra/ its settings are unknown."
        for log in files:
            if TORCHREID_LOG.fullmatch(log):
                yield (folder / log).resolve(), _torchreid(folder / log, top)


def _told(folder: Path) -> tuple[str, dict[str, str]]:
    """The command and the overrides of a run; of two for the same setting, the last, as Hydra takes them."""
    try:
        overrides = OmegaConf.to_container(OmegaConf.load(folder / "overrides.yaml"), resolve=False)
        command = str(OmegaConf.load(folder / "hydra.yaml").hydra.job.config_name)
    except Exception as error:  # a file is missing or broken, in one of many ways of YAML and OmegaConf
        raise ValueError(f"runs: {folder} cannot be read ({error}): leave this run out, or run it again.") from error
    pairs = (str(override).lstrip("+").partition("=") for override in overrides or ())
    return command, {key: value for key, _, value in pairs}


def _metrics(file: Path) -> dict[str, Any]:
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"runs: {file} is broken ({error}): leave this run out, or run it again.") from error
    if not isinstance(metrics, dict):
        raise ValueError(f"runs: {file} holds no metrics by name: leave this run out, or run it again.")
    return metrics


def _torchreid(log: Path, top: Path) -> Run | str:
    """The last scores of each dataset in a log of Torchreid.

    Its `scripts/main.py` prints all settings first. In a log without them they are unknown, and `top` stands for them.
    """
    settings: dict[str, str] = {}
    results: dict[str, dict[str, float]] = {}
    path: list[str] = []  # of the setting
    dataset, part = "", ""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line == "Show configuration":
            part = "settings"
        elif line == "** Results **":
            part = "results"
            results[dataset] = {}
        elif match := TORCHREID_DATASET.match(line):
            dataset = f"{match[1]}/"
        elif part == "settings" and (match := TORCHREID_SETTING.fullmatch(line)):
            path = [*path[: len(match[1]) // 2], match[2]]  # two spaces a level
            if match[3]:
                settings[".".join(path)] = match[3]
        elif part == "results" and (match := TORCHREID_FIGURE.match(line)):
            results[dataset][match[1] or f"rank{match[2]}"] = float(match[3]) / 100
        elif line != "CMC curve":
            part = ""
    metrics = {f"test/{name}{key}": value for name, each in results.items() for key, value in each.items()}
    if not metrics:
        return f"{log} is not counted: there are no results in it."
    command = f"torchreid {log.name.partition('.')[0]}"
    return Run(log, command, settings or {"folder": str(top)}, metrics)
