"""Error messages of commands: one message with a remedy instead of a traceback."""

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from reidlit.commands._overrides import suspicious_overrides
from reidlit.console import complain

USER_ERRORS = (ValueError, OSError, HydraException, OmegaConfBaseException)
LOST_WORKER = "DataLoader worker"  # prefix of torch's message about a worker that has died
LOADER = "torch.utils.data.dataloader"
BUILD_ERRORS = (TypeError, AttributeError, ArithmeticError, LookupError, RuntimeError, AssertionError)
INTERRUPTED = 130  # exit status of a shell after Ctrl-C


@contextmanager
def explained(command: str) -> Iterator[None]:
    """Print an error that a user can fix as one message on stderr, and exit with status 1.

    Other errors, and all errors with HYDRA_FULL_ERROR=1, keep their traceback.
    """
    try:
        yield
    except (*USER_ERRORS, EOFError, RuntimeError) as error:
        is_lost_worker = _is_lost_worker(error)
        if os.environ.get("HYDRA_FULL_ERROR") or not (is_lost_worker or isinstance(error, USER_ERRORS)):
            raise
        complain(f"reidlit {command}: {_lost_worker_message(error) if is_lost_worker else message(error)}")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        complain(f"\nreidlit {command}: interrupted.")
        raise SystemExit(INTERRUPTED) from None


def _is_lost_worker(error: BaseException) -> bool:
    """Return True if a DataLoader worker has died: torch reports it, or the connection to it broke."""
    if isinstance(error, RuntimeError):
        return str(error).startswith(LOST_WORKER)
    if not isinstance(error, (ConnectionError, EOFError, FileNotFoundError)):
        return False
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return LOADER in modules and any(name.startswith("multiprocessing.") for name in modules)


def _lost_worker_message(error: BaseException) -> str:
    reason = str(error).splitlines()[0] if isinstance(error, RuntimeError) else f"{LOST_WORKER} lost ({error})."
    return (
        f"{reason} The system most likely killed it because memory ran out: reduce data.num_workers or "
        "data.batch_size, or read images in the main process with data.num_workers=0. Add ckpt_path=last to the same "
        "command to resume training."
    )


@contextmanager
def wrong_types_named() -> Iterator[None]:
    """Name the settings of a suspicious type when building an object fails.

    Without such a setting the error is a bug in reidlit, so it keeps its traceback.

    Raises:
        ValueError: If a TypeError or a similar error occurs, and a setting differs in type from its default.
    """
    try:
        yield
    except Exception as error:
        cause = first_cause(error)
        suspects = suspicious_overrides() if isinstance(cause, BUILD_ERRORS) else []
        if not suspects:
            raise
        raise ValueError(
            f"{', '.join(suspects)} is invalid ({str(cause).strip() or type(cause).__name__}): the value may have the "
            "wrong type, such as text where a number is expected. `--help` lists the defaults, and HYDRA_FULL_ERROR=1 "
            "shows the traceback."
        ) from error


@contextmanager
def interruptible(trainer: pl.Trainer, stage: str, remedy: str) -> Iterator[None]:
    """Print how to continue after Ctrl-C, once Lightning has shut down its workers and loggers."""
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
        complain(f"\nreidlit: interrupted ({stage}, epoch {trainer.current_epoch + 1}). {remedy}")
        raise SystemExit(INTERRUPTED) from None


def message(error: BaseException) -> str:
    """Return the message of the first cause, without the wrapping of Hydra and of DataLoader workers."""
    text = str(first_cause(error)).strip()
    if "Original Traceback" in text:  # from a DataLoader worker: the last line contains the message
        text = text.splitlines()[-1].partition(": ")[2]
    return text


def first_cause(error: BaseException) -> BaseException:
    """Return the error that Hydra has wrapped, or the error itself."""
    while isinstance(error, HydraException) and error.__cause__ is not None:
        error = error.__cause__
    return error
