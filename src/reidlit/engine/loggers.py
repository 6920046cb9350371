"""W&B without surprises."""

import netrc
import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger


def wandb_logger(
    save_dir: str,
    project: str = "reidlit",
    offline: bool | None = None,
    name: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
) -> WandbLogger:
    """A W&B logger that never prompts.

    Args:
        save_dir: where the run's files go.
        project: of the run on W&B.
        offline: write files only, for `wandb sync`. `None`: offline unless an account is set up on this machine.
        name: of the run; W&B invents one.
        group: under which W&B shows runs together.
        tags: to find it by.
    """
    if offline is None:
        offline = not _has_account()
    # The logger makes the folder itself only when online; offline wandb would fall back to a temporary one.
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        save_dir=save_dir, project=project, offline=offline, name=name, group=group, tags=list(tags) or None
    )


def _has_account() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


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
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()
