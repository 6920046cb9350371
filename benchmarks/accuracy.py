"""Collect the accuracy of finished `reidlit train` and `reidlit test` runs in one file.

    python benchmarks/accuracy.py runs/test/<run> runs/train/<run> [--output benchmarks/results/accuracy.json]

The JSON file contains the command of each run (its overrides without local paths), its scores and its duration in minutes, and the
scores that others published. Runs that the file already contains are kept unless a new run has the same command.
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
    """Collect the runs and write the file."""
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
        "runs": list(
            (previous_runs(arguments.output) | {run["command"]: run for run in map(read, arguments.runs)}).values()
        ),
    }
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def read(run: Path) -> dict[str, Any]:
    """Return the command, the duration and the scores of one run."""
    settings, metrics = run / ".hydra" / "overrides.yaml", run / "metrics.json"
    overrides = [line.removeprefix("- ").strip() for line in settings.read_text().splitlines()]
    overrides = [item if not item.startswith(PATHS) else f"{item.split('=')[0]}=..." for item in overrides]
    minutes = (metrics.stat().st_mtime - settings.stat().st_mtime) / 60
    return {
        "command": " ".join(item for item in overrides if not item.startswith("hydra.")),
        "minutes": round(minutes, 1),
        "metrics": {name: value for name, value in json.loads(metrics.read_text()).items() if is_score(name, value)},
    }


def previous_runs(output: Path) -> dict[str, Any]:
    """Return the runs of an existing file by command."""
    return {run["command"]: run for run in json.loads(output.read_text())["runs"]} if output.is_file() else {}


def is_score(name: str, value: object) -> bool:
    """Return True for a score, its interval or the protocol, False for a curve or a table."""
    return isinstance(value, int | float) or name.endswith(("/intervals", "/protocol"))


if __name__ == "__main__":
    main()
