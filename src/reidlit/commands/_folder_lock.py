"""Lock of the run folder or sweep folder of a command, taken before Hydra writes into it."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from reidlit.console import is_main_process
from reidlit.locks import locked

RUN, SWEEP = "hydra.run.dir", "hydra.sweep.dir"
CLOCK = "${now:"  # in a folder that is named after the time and therefore new, such as the default
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # set if another program has started this process as a rank
_locks = ExitStack()  # of the command that runs in this process


class FolderLock(Callback):
    """Callback that refuses a folder in which another process runs, and gives each run its own default folder.

    The ranks of a run share its folder, so only the main process locks it.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 Hydra passes more
        """Lock the run folder."""
        is_new = CLOCK in str(OmegaConf.to_container(config.hydra.run, resolve=False))
        if is_new and not any(name in os.environ for name in RANKS):
            with read_write(config.hydra):
                OmegaConf.update(config, RUN, str(_created(Path(config.hydra.run.dir))))
        _lock(config, Path(config.hydra.run.dir), RUN)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 Hydra passes more
        """Lock the sweep folder."""
        _lock(config, Path(config.hydra.sweep.dir), SWEEP)


@contextmanager
def folders_released() -> Iterator[None]:
    """Release the locks of `FolderLock` at the end of a command."""
    try:
        yield
    finally:
        _locks.close()


@contextmanager
def job_folder_locked(folder: Path) -> Iterator[None]:
    """Lock the folder of a sweep job.

    Raises:
        BlockingIOError: If another process runs in the folder.
    """
    with ExitStack() as locks:
        if is_main_process():
            locks.enter_context(locked(folder, wait=False, name=RUN, inside=True))
        yield


def _lock(config: DictConfig, folder: Path, name: str) -> None:
    if not is_main_process():
        return
    try:
        _locks.enter_context(locked(folder, wait=False, name=name, inside=True))
    except BlockingIOError as error:
        sys.exit(f"reidlit {config.hydra.job.config_name}: {error}")  # Hydra only warns about other exceptions


def _created(folder: Path) -> Path:
    """Create a folder that does not exist yet, because two runs that start in the same second have the same default."""
    for number in count(1):
        path = folder if number == 1 else folder.with_name(f"{folder.name}_{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError:  # Hydra reports it
            break
        return path
    return folder
