"""What a sweep leaves: a table of its jobs, and a picture of what their settings have done."""

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

from reidlit.commands._sweep_folder import RESUME, Job, jobs, refuse_another, score, score_name

SHOWN = ("mAP", "mA", "rank1")  # of what the sweep maximises; mA is that of attributes


class SweepSummary(Callback):
    """Guards the folder of a sweep and sums it up. Where it is configured, a failed job does not end its sweep."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 Hydra passes more
        """Refuse the folder of another sweep; say how to go on with this one."""
        command = config.hydra.job.config_name
        try:
            refuse_another(config)
        except ValueError as error:
            sys.exit(f"reidlit {command}: {error}")  # Hydra makes a warning of other exceptions
        _say(f"If this sweep is cut, go on with it: reidlit {command} {RESUME}{config.hydra.sweep.dir}")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 Hydra passes more
        """Print the table, write it and the picture; end with status 1 if a job has failed."""
        folder = Path(config.hydra.sweep.dir)
        found = sorted(jobs(folder), key=_worse)
        varied = varied_settings(found)
        print_jobs(found, varied)
        files = {"summary": folder / "summary.csv"}
        write_csv(files["summary"], found, varied)
        names = dict.fromkeys(score_name(job.metrics) for job in found if score(job.metrics) is not None)
        if varied and names:
            # Here, so that a run that is no sweep does not wait for matplotlib.
            from reidlit.visualize.parallel_coordinates import parallel_coordinates

            files["picture"] = folder / "parallel.svg"
            axes = {name: [job.settings.get(name, "default") for job in found] for name in varied}
            percents = [None if (value := score(job.metrics)) is None else 100 * value for job in found]
            picture = parallel_coordinates(axes, percents, f"{' or '.join(map(str, names))} (%)")
            files["picture"].write_text(picture, encoding="utf-8")
        for name, file in files.items():
            _say(f"{name}: {file}")
        if any(name == "seed" or name.endswith(("split_id", "split_seed")) for name in varied):
            _say(f"mean and spread over seeds and splits: reidlit aggregate {folder}")
        if failed := [job for job in found if job.status != "finished"]:
            listed = "\n".join(f"  {folder / job.name}: {job.error or 'it was cut'}" for job in failed)
            again = f"To try them again: reidlit {config.hydra.job.config_name} {RESUME}{folder}"
            if not config.hydra.sweeper._target_.endswith(".BasicSweeper"):
                again = "The search has gone on without them."
            sys.exit(f"{len(failed)} of {len(found)} jobs did not finish:\n{listed}\n{again}")


def _worse(job: Job) -> float:
    """The best job first, those without a score last."""
    value = score(job.metrics)
    return 1.0 if value is None else -value


def varied_settings(found: Sequence[Job]) -> list[str]:
    """The settings in which jobs differ, in the order in which they were given."""
    keys = dict.fromkeys(key for job in found for key in job.settings)
    return [key for key in keys if len({job.settings.get(key) for job in found}) > 1]


def print_jobs(found: Sequence[Job], varied: Sequence[str]) -> None:
    """Print a row for each job, in percent."""
    figures = [
        {name: job.metrics.get(f"{(score_name(job.metrics) or '').rpartition('/')[0]}/{name}") for name in SHOWN}
        for job in found
    ]
    shown = [name for name in SHOWN if any(each[name] is not None for each in figures)]
    table = Table("job", *varied, box=SIMPLE, pad_edge=False, collapse_padding=True)
    for name in shown:
        table.add_column(f"{name}, %", justify="right")
    table.add_column("status")
    for job, each in zip(found, figures, strict=True):
        cells = ["" if (value := each[name]) is None else f"{100 * value:.2f}" for name in shown]
        table.add_row(job.name, *(_shortened(job.settings.get(key, "")) for key in varied), *cells, job.status)
    Console().print(table)


def _shortened(value: str) -> str:
    """A drawn number without the digits that nobody reads."""
    try:
        return f"{float(value):.4g}" if len(value) > 10 else value
    except ValueError:
        return value


def write_csv(file: Path, found: Sequence[Job], varied: Sequence[str]) -> None:
    """Write a row for each job: what varied, each mAP and rank-1 as a fraction, and why it failed."""
    known = dict.fromkeys(name for job in found for name in job.metrics)
    metrics = [name for name in known if name.rpartition("/")[2] in SHOWN]
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["job", "status", *varied, *metrics, "error"])
        for job in found:
            told = [job.settings.get(key, "") for key in varied]
            values = [job.metrics.get(name) for name in metrics]
            writer.writerow([job.name, job.status, *told, *("" if x is None else x for x in values), job.error or ""])


def _say(text: str) -> None:
    Console().print(text, highlight=False, soft_wrap=True, markup=False)
