"""Factories for the CSV and W&B loggers of the configuration group `logger`."""

from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import Literal

from pytorch_lightning.loggers import Logger

from reidlit.engine.loggers.csv_log import CSVLog
from reidlit.engine.loggers.run_name import options, run_name, sweep
from reidlit.engine.loggers.wandb import RUN_FILE, WandbRun
from reidlit.foreign_files import expanded, read_json


def wandb_logger(
    save_dir: str,
    project: str = "reidlit",
    entity: str | None = None,
    offline: bool | None = None,
    name: str | None = None,
    group: str | None = None,
    tags: Sequence[str] | None = None,
    job_type: str | None = None,
    seed: int | None = None,
    log_model: bool | Literal["all"] = False,
    resume: bool = True,
    ckpt_path: str | None = None,
) -> WandbRun:
    """Build the W&B logger; `offline` and `log_model` are described in `WandbRun`.

    Args:
        save_dir: Folder for the run's files.
        project: Project on W&B.
        entity: User or team on W&B; `None` means the default of the account.
        offline: Whether to write files only; see `WandbRun`.
        name: Run name; None for its model, data, loss and seed.
        group: Group of runs on W&B; None for the sweep folder, if the run is a job of a sweep.
        tags: Tags of the run; None for its model, data, loss and experiment.
        job_type: `train` or another command.
        seed: Random seed, for the run name.
        log_model: Whether to log checkpoints as artifacts.
        resume: Whether to resume the W&B run that wrote `ckpt_path`.
        ckpt_path: Checkpoint that training resumes from, or `last`.

    Raises:
        ValueError: If `log_model` is invalid.
    """
    if log_model not in (False, True, "all"):
        raise ValueError(f"logger.wandb.log_model={log_model} is invalid: must be false, true or all.")
    run_id = None
    if resume and ckpt_path and job_type in (None, "train"):
        file = Path(save_dir) / "checkpoints" / "last.ckpt" if ckpt_path == "last" else expanded(ckpt_path)
        run_id = _previous_id(file.resolve().parents[1], project)
    if tags is None:
        chosen = options()
        tags = [chosen[group] for group in ("model", "data", "loss", "experiment") if group in chosen]
    return WandbRun(
        save_dir,
        offline,
        log_model,
        project=project,
        id=run_id,
        entity=entity,
        name=name or run_name(seed),
        group=group or sweep(),
        tags=list(dict.fromkeys(tags)) or None,
        job_type=job_type,
    )


def _previous_id(run: Path, project: str) -> str | None:
    """Return the id of the W&B run of a run folder; None if it has no run in this project."""
    file = run / RUN_FILE
    previous = read_json(file, "Delete it to start a new W&B run.") if file.is_file() else {}
    is_same = previous.get("project") == project and isinstance(previous.get("id"), str)
    return str(previous["id"]) if is_same else None


def csv_logger(save_dir: str) -> CSVLog:
    """Build a CSV logger for the folder `csv`, or for `csv_2` and so on if earlier parts of a resumed run exist."""
    names = chain(["csv"], (f"csv_{number}" for number in count(2)))
    version = next(name for name in names if not (Path(save_dir) / name).exists())
    return CSVLog(save_dir, name="", version=version)


def finish(loggers: Sequence[Logger]) -> None:
    """End the run of each W&B logger, so that its file is complete and the next job of a sweep starts its own."""
    for logger in loggers:
        if isinstance(logger, WandbRun):
            logger.end()
