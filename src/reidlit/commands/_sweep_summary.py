"""The table of a sweep's jobs, their settings and their scores."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from reidlit.console import say
from reidlit.runs.sweep import RESUME, Job, SweepFolder, refuse_other_sweep

SHOWN = ("mAP", "mA", "rank1")  # of what the sweep maximises; mA is that of attributes


class SweepSummary(Callback):
    """Guards the folder of a sweep and sums it up. Where it is configured, a failed job does not end its sweep."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 Hydra passes more
        """Refuse the folder of another sweep; say how to go on with this one."""
        command = config.hydra.job.config_name
        try:
            refuse_other_sweep(config)
        except ValueError as error:
            sys.exit(f"reidlit {command}: {error}")  # Hydra makes a warning of other exceptions
        say(f"If this sweep is cut, go on with it: reidlit {command} {RESUME}{config.hydra.sweep.dir}")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 Hydra passes more
        """Print and write the table of the jobs; end with status 1 if a job has failed."""
        folder = Path(config.hydra.sweep.dir)
        jobs = sorted(SweepFolder(folder).jobs(), key=_worse)
        varied = varied_settings(jobs)
        print_jobs(jobs, varied)
        write_csv(folder / "summary.csv", jobs, varied)
        say(f"summary: {folder / 'summary.csv'}")
        if any(name == "seed" or name.endswith(("split_id", "split_seed")) for name in varied):
            say(f"mean and spread over seeds and splits: reidlit aggregate {folder}")
        if failed := [job for job in jobs if job.status != "finished"]:
            listed = "\n".join(f"  {folder / job.name}: {job.error or 'it was cut'}" for job in failed)
            again = f"To try them again: reidlit {config.hydra.job.config_name} {RESUME}{folder}"
            if not config.hydra.sweeper._target_.endswith(".BasicSweeper"):
                again = "The search has gone on without them."
            sys.exit(f"{len(failed)} of {len(jobs)} jobs did not finish:\n{listed}\n{again}")


def _worse(job: Job) -> float:
    """The best job first, those without a score last."""
    value = job.result.score
    return 1.0 if value is None else -value


def varied_settings(jobs: Sequence[Job]) -> list[str]:
    """Return the settings in which jobs differ, in the order in which they were given."""
    keys = dict.fromkeys(key for job in jobs for key in job.settings)
    return [key for key in keys if len({job.settings.get(key) for job in jobs}) > 1]


def print_jobs(jobs: Sequence[Job], varied: Sequence[str]) -> None:
    """Print a row for each job, in percent."""
    rows = [
        {name: None if job.result.scored is None else job.result.scored.metrics.get(name) for name in SHOWN}
        for job in jobs
    ]
    shown = [name for name in SHOWN if any(each[name] is not None for each in rows)]
    table = Table("job", *varied, box=SIMPLE, pad_edge=False, collapse_padding=True)
    for name in shown:
        table.add_column(f"{name}, %", justify="right")
    table.add_column("status")
    for job, each in zip(jobs, rows, strict=True):
        cells = ["" if (value := each[name]) is None else f"{100 * value:.2f}" for name in shown]
        table.add_row(job.name, *(_shortened(job.settings.get(key, "")) for key in varied), *cells, job.status)
    Console().print(table)


def _shortened(value: str) -> str:
    """A drawn number without the digits that nobody reads."""
    try:
        return f"{float(value):.4g}" if len(value) > 10 else value
    except ValueError:
        return value


def write_csv(file: Path, jobs: Sequence[Job], varied: Sequence[str]) -> None:
    """Write a row for each job: what varied, each mAP and rank-1 as a fraction, and why it failed."""
    results = [job.result.to_json() for job in jobs]
    names = dict.fromkeys(name for metrics in results for name in metrics)
    shown = [name for name in names if name.rpartition("/")[2] in SHOWN]
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["job", "status", *varied, *shown, "error"])
        for job, metrics in zip(jobs, results, strict=True):
            row: list[Any] = [job.name, job.status]
            row += [job.settings.get(key, "") for key in varied]
            row += [metrics.get(name) for name in shown]  # None leaves the cell empty
            writer.writerow([*row, job.error])
