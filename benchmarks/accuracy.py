"""Collects the accuracies of finished `reidlit train` and `reidlit test` runs.

    python benchmarks/accuracy.py runs/test/<run> runs/train/<run> [--output benchmarks/results/accuracy.json]

Each run's command (its overrides, without the paths of this machine), scores, and the minutes from its start to its end go
into one JSON file, beside the figures that others publish or measured, which are quoted. Runs that the file holds already stay,
unless their command is measured anew.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

from train_step import cpu

QUOTED = {
    "osnet_x0_25, Torchreid's weights, euclidean": {"rank1": 0.912, "mAP": 0.750, "source": "Torchreid's model zoo"},
}
PATHS = ("data.root=", "hydra.", "weights=", "ckpt_path=")


def main() -> None:
    """Collects and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path, help="folders with metrics.json")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "accuracy.json")
    arguments = parser.parse_args()
    results = {
        "what": "scores on the full test sets, as fractions",
        "machine": {"cpu": cpu(), "cores": os.cpu_count()},
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "pytorch-lightning", "reidlit")},
        "quoted": QUOTED,
        "runs": list((before(arguments.output) | {run["command"]: run for run in map(read, arguments.runs)}).values()),
    }
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def read(run: Path) -> dict[str, Any]:
    """One run's command, minutes and scores."""
    settings, metrics = run / ".hydra" / "overrides.yaml", run / "metrics.json"
    overrides = [line.removeprefix("- ").strip() for line in settings.read_text().splitlines()]
    shown = [item if not item.startswith(PATHS) else f"{item.split('=')[0]}=..." for item in overrides]
    minutes = (metrics.stat().st_mtime - settings.stat().st_mtime) / 60
    return {
        "command": " ".join(item for item in shown if not item.startswith("hydra.")),
        "minutes": round(minutes, 1),
        "metrics": {name: value for name, value in json.loads(metrics.read_text()).items() if is_figure(name, value)},
    }


def before(output: Path) -> dict[str, Any]:
    """The runs of an earlier file by their commands."""
    return {run["command"]: run for run in json.loads(output.read_text())["runs"]} if output.is_file() else {}


def is_figure(name: str, value: object) -> bool:
    """Whether it is a score, its interval or the protocol, and no curve or table."""
    return isinstance(value, int | float) or name.endswith(("/intervals", "/protocol"))


if __name__ == "__main__":
    main()
