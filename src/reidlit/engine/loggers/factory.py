"""Loggers without surprises."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Literal

from pytorch_lightning.loggers import CSVLogger, Logger

from reidlit.engine.loggers.run_name import options, run_name, sweep
from reidlit.engine.loggers.wandb import WandbRun


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
    """A W&B logger that never prompts; see `WandbRun`.

    Args:
        save_dir: where the run's files go.
        project: of the run on W&B.
        entity: the user or team on W&B; `None` for the account's own.
        offline: write files only, for `wandb sync`. `None`: as WANDB_MODE says, else offline unless an account is set up on
            this machine.
        name: of the run; `None`: its model, data, loss and seed.
        group: under which W&B shows runs together; `None`: the folder of the sweep that it is a job of, if it is.
        tags: to find it by; `None`: its model, data, loss and experiment.
        job_type: `train` or another command.
        seed: for the name.
        log_model: keep checkpoints as artifacts: true when the run ends, `all` whenever one is written.
        resume: whether to go on with the W&B run that `ckpt_path` is of.
        ckpt_path: the checkpoint that training is resumed from, or `last`.

    Raises:
        ValueError: if `log_model` is something else.
    """
    if log_model not in (False, True, "all"):
        raise ValueError(f"logger.wandb.log_model={log_model} must be false, true or all.")
    chosen = options()
    found = [chosen[each] for each in ("model", "data", "loss", "experiment") if each in chosen]
    return WandbRun(
        save_dir,
        project,
        offline,
        log_model,
        resumed=_run_of(ckpt_path, save_dir) if resume and ckpt_path and job_type in (None, "train") else None,
        entity=entity,
        name=name or run_name(seed),
        group=group or sweep(),
        tags=list(dict.fromkeys(found)) if tags is None else tags,
        job_type=job_type,
    )


def _run_of(ckpt_path: str, save_dir: str) -> Path:
    """The folder of the run that has written a checkpoint, `<run>/checkpoints/<file>`."""
    return Path(save_dir) if ckpt_path == "last" else Path(ckpt_path).expanduser().resolve().parents[1]


def csv_logger(save_dir: str) -> CSVLogger:
    """A CSV logger in `csv/`, or in `csv_2/` and so on where an earlier part of a resumed run has logged already."""
    version = next(
        f"csv_{n}" if n > 1 else "csv"
        for n in count(1)
        if not (Path(save_dir) / (f"csv_{n}" if n > 1 else "csv")).exists()
    )
    return CSVLogger(save_dir=save_dir, name="", version=version)


def finish(loggers: Sequence[Logger]) -> None:
    """End the run of each W&B logger, so that a sweep's next job in this process begins its own and the file is whole."""
    for logger in loggers:
        if isinstance(logger, WandbRun):
            logger.end()
