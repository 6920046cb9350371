"""Run one job of a sweep: skip it if finished, resume it if interrupted, and record its failure without stopping the sweep."""

import gc
import math
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only
from torch import distributed

from reidlit.commands._errors import USER_ERRORS, message
from reidlit.commands._settings import current_run, with_settings
from reidlit.console import say

Task = Callable[[DictConfig], float | None]
STOPPED = 128 + signal.SIGTERM  # the status that a shell gives


def run_job(command: str, task: Task, cfg: DictConfig) -> float | None:
    """Run a command within a sweep.

    Returns:
        The score of the job, from this run or an earlier one; NaN if it failed, which `error.txt` in its folder explains.
    """
    folder = current_run()
    finished = folder.result()
    if finished is not None:
        say(f"{folder.path} has finished before.")
        return finished.score
    if command == "train" and folder.last_checkpoint.is_file():
        cfg = with_settings(cfg, {"ckpt_path": str(folder.last_checkpoint)})
    folder.error_file.unlink(missing_ok=True)
    try:
        with _stoppable():
            return task(cfg)
    except Exception as error:
        _explain(command, error)
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            raise  # the other ranks would wait for this one
        return math.nan
    finally:
        gc.collect()  # a Trainer and its module hold each other, and with them the memory that the next job needs


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end the sweep, and not only a job whose loader processes it has killed as well."""
    told = []

    def stop(*_: object) -> None:
        told.append(True)
        if signal.getsignal(signal.SIGTERM) is stop:  # else Lightning has been told too, and ends its step first
            raise SystemExit(STOPPED)

    # A launcher may have its own way, as submitit has on a cluster.
    free = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not free:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if told:
            raise SystemExit(STOPPED) from None


@rank_zero_only
def _explain(command: str, error: Exception) -> None:
    text = message(error) if isinstance(error, USER_ERRORS) else f"{type(error).__name__}: {error}"
    file = current_run().error_file
    file.write_text(f"{' '.join(text.split())}\n\n{''.join(traceback.format_exception(error))}", encoding="utf-8")
    sys.stderr.write(f"reidlit {command}: {text}\nThis job has failed, see {file}; the others go on.\n")
