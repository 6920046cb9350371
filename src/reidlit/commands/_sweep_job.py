"""Execution of a sweep job: finished jobs are skipped, interrupted jobs resume, and failures do not stop the sweep."""

import gc
import math
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only
from torch import distributed

from reidlit.commands._errors import USER_ERRORS, message
from reidlit.commands._settings import current_run, with_settings
from reidlit.console import complain, say

Task = Callable[[DictConfig], float | None]
STOPPED = 128 + signal.SIGTERM  # exit status of a shell after SIGTERM


def run_job(command: str, task: Task, cfg: DictConfig) -> float | None:
    """Run a command as a job of a sweep.

    Args:
        command: Name of the command.
        task: Function that runs the command.
        cfg: Configuration of the job.

    Returns:
        Score of the job, from this run or an earlier one. If the job fails, NaN, and its folder contains `error.txt`.
    """
    folder = current_run()
    finished = folder.result()
    if finished is not None:
        say(f"{folder.path} is already finished: skipped")
        return finished.score
    if command == "train" and folder.last_checkpoint.is_file():
        cfg = with_settings(cfg, {"ckpt_path": str(folder.last_checkpoint)})
    folder.error_file.unlink(missing_ok=True)
    try:
        with _stoppable():
            return task(cfg)
    except Exception as error:
        _record_failure(command, error)
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            raise  # otherwise the other ranks would wait forever
        return math.nan
    finally:
        gc.collect()  # Trainer and module reference each other; free their memory before the next job


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end the whole sweep, even if the job first fails because its DataLoader workers were killed."""
    received = []

    def stop(*_: object) -> None:
        received.append(True)
        if (
            signal.getsignal(signal.SIGTERM) is stop
        ):  # otherwise Lightning also handles the signal, after its current step
            raise SystemExit(STOPPED)

    # A launcher may install a handler itself, as submitit does on a cluster.
    is_default = (
        threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if not is_default:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if received:
            raise SystemExit(STOPPED) from None


@rank_zero_only
def _record_failure(command: str, error: Exception) -> None:
    text = message(error) if isinstance(error, USER_ERRORS) else f"{type(error).__name__}: {error}"
    file = current_run().error_file
    file.write_text(f"{' '.join(text.split())}\n\n{''.join(traceback.format_exception(error))}", encoding="utf-8")
    complain(f"reidlit {command}: {text}\nThis job failed; its traceback is in {file}. The sweep continues.")
