"""Summary table of a sweep: jobs, settings and scores."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.box import SIMPLE
from rich.table import Table

from reidlit.console import say, show
from reidlit.escaping import for_terminal
from reidlit.runs.sweep import RESUME, Job, SweepFolder, refuse_other_sweep
from reidlit.tables import write_rows

SHOWN = ("mAP", "mA", "rank1")  # metrics in the table; mA is the mean accuracy of attributes


class SweepSummary(Callback):
    """Callback that checks the folder of a sweep, summarizes its jobs, and keeps failed jobs from stopping it."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 Hydra passes more
        """Refuse the folder of another sweep; print how to resume this one."""
        command = config.hydra.job.config_name
        try:
            refuse_other_sweep(config)
        except ValueError as error:
            sys.exit(for_terminal(f"reidlit {command}: {error}"))  # Hydra only warns about other exceptions
        say(f"To resume this sweep after an interruption: reidlit {command} {RESUME}{config.hydra.sweep.dir}")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 Hydra passes more
        """Print and write the summary; exit with status 1 if a job has not finished."""
        folder = Path(config.hydra.sweep.dir)
        jobs = sorted(SweepFolder(folder).jobs(), key=_sort_key)
        varied = varied_settings(jobs)
        print_jobs(jobs, varied)
        write_csv(folder / "summary.csv", jobs, varied)
        say(f"summary: {folder / 'summary.csv'}")
        if any(name == "seed" or name.endswith(("split_id", "split_seed")) for name in varied):
            say(f"statistics over seeds and splits: reidlit aggregate {folder}")
        if failed := [job for job in jobs if job.status != "finished"]:
            listed = "\n".join(f"  {folder / job.name}: {job.error or 'interrupted'}" for job in failed)
            remedy = f"To repeat these jobs: reidlit {config.hydra.job.config_name} {RESUME}{folder}"
            if not config.hydra.sweeper._target_.endswith(".BasicSweeper"):
                remedy = "The search continued without these jobs."
            sys.exit(for_terminal(f"{len(failed)} of {len(jobs)} jobs did not finish:\n{listed}\n{remedy}"))


def _sort_key(job: Job) -> float:
    """Sort the best job first and jobs without a score last."""
    value = job.result.score
    return 1.0 if value is None else -value


def varied_settings(jobs: Sequence[Job]) -> list[str]:
    """Return the settings that differ between jobs, in the order of the command line."""
    keys = dict.fromkeys(key for job in jobs for key in job.settings)
    return [key for key in keys if len({job.settings.get(key) for job in jobs}) > 1]


def print_jobs(jobs: Sequence[Job], varied: Sequence[str]) -> None:
    """Print a row for each job, with scores in percent."""
    rows = [
        {name: None if job.result.scored is None else job.result.scored.metrics.get(name) for name in SHOWN}
        for job in jobs
    ]
    shown = [name for name in SHOWN if any(each[name] is not None for each in rows)]
    table = Table("job", *varied, box=SIMPLE, pad_edge=False, collapse_padding=True)
    for name in shown:
        table.add_column(f"{name} (%)", justify="right")
    table.add_column("status")
    for job, each in zip(jobs, rows, strict=True):
        cells = ["" if (value := each[name]) is None else f"{100 * value:.2f}" for name in shown]
        table.add_row(job.name, *(_rounded(job.settings.get(key, "")) for key in varied), *cells, job.status)
    show(table)


def _rounded(value: str) -> str:
    """Round a long number, such as one that a search has sampled."""
    try:
        return f"{float(value):.4g}" if len(value) > 10 else value
    except ValueError:
        return value


def write_csv(file: Path, jobs: Sequence[Job], varied: Sequence[str]) -> None:
    """Write a row for each job: settings that vary, scores as fractions, and the error of a failed job."""
    results = [job.result.to_json() for job in jobs]
    names = dict.fromkeys(name for metrics in results for name in metrics)
    shown = [name for name in names if name.rpartition("/")[2] in SHOWN]
    rows = [
        [
            *(job.name, job.status),
            *(job.settings.get(key, "") for key in varied),
            *(metrics.get(name) for name in shown),  # None leaves the cell empty
            job.error,
        ]
        for job, metrics in zip(jobs, results, strict=True)
    ]
    write_rows(file, ["job", "status", *varied, *shown, "error"], rows)
