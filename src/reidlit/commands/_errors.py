"""What a user reads when something is wrong: one message with the way out."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from reidlit.commands._overrides import suspicious_overrides

USER_ERRORS = (ValueError, OSError, HydraException, OmegaConfBaseException)
LOST_WORKER = "DataLoader worker"  # how torch begins to tell of a loader process that has died
LOADER = "torch.utils.data.dataloader"
BUILD_ERRORS = (TypeError, AttributeError, ArithmeticError, LookupError, RuntimeError, AssertionError)
INTERRUPTED = 130  # what a shell gives for Ctrl-C


@contextmanager
def explained(command: str) -> Iterator[None]:
    """Turn an error that a user can mend into one message on stderr and exit status 1.

    With HYDRA_FULL_ERROR=1 it keeps its traceback, as all others do.
    """
    try:
        yield
    except (*USER_ERRORS, EOFError, RuntimeError) as error:
        lost = _is_lost_worker(error)
        if os.environ.get("HYDRA_FULL_ERROR") or not (lost or isinstance(error, USER_ERRORS)):
            raise
        sys.stderr.write(f"reidlit {command}: {_of_lost_worker(error) if lost else message(error)}\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        sys.stderr.write(f"\nreidlit {command}: interrupted.\n")
        raise SystemExit(INTERRUPTED) from None


def _is_lost_worker(error: BaseException) -> bool:
    """Whether a loader process has died: torch says so, or what was just read from it broke off."""
    if isinstance(error, RuntimeError):
        return str(error).startswith(LOST_WORKER)
    if not isinstance(error, (ConnectionError, EOFError, FileNotFoundError)):
        return False
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return LOADER in modules and any(name.startswith("multiprocessing.") for name in modules)


def _of_lost_worker(error: BaseException) -> str:
    first = str(error).splitlines()[0] if isinstance(error, RuntimeError) else f"{LOST_WORKER} lost ({error})."
    return (
        f"{first} A process that reads images was ended from outside, most often because memory ran out: lower "
        "data.num_workers or data.batch_size; data.num_workers=0 reads in the main process. What was trained is in the last "
        "checkpoint: add ckpt_path=last to the same command to go on from it."
    )


@contextmanager
def wrong_types_named() -> Iterator[None]:
    """Explain an error of Python while a setting is built by the settings whose type differs from that of their default.

    Without such a setting the error is a bug, whose traceback must be seen, and passes.

    Raises:
        ValueError: In place of Python's own errors, such as a TypeError.
    """
    try:
        yield
    except Exception as error:
        cause = first_cause(error)
        suspects = suspicious_overrides() if isinstance(cause, BUILD_ERRORS) else []
        if not suspects:
            raise
        raise ValueError(
            f"{', '.join(suspects)}: a setting cannot be used ({str(cause).strip() or type(cause).__name__}). It may have the "
            "wrong type, such as text where a number is expected, or null where a value is needed. --help lists the defaults; "
            "HYDRA_FULL_ERROR=1 shows the traceback."
        ) from error


@contextmanager
def interruptible(trainer: pl.Trainer, doing: str, way_out: str) -> Iterator[None]:
    """Say how to go on after Ctrl-C, once Lightning has shut down its workers and loggers."""
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
        sys.stderr.write(f"\nreidlit: interrupted ({doing}, epoch {trainer.current_epoch + 1}). {way_out}\n")
        raise SystemExit(INTERRUPTED) from None


def message(error: BaseException) -> str:
    """The words of the first cause, without the wrapping of Hydra and of loader processes."""
    text = str(first_cause(error)).strip()
    if "Original Traceback" in text:  # from a loader process: the last line holds the message
        text = text.splitlines()[-1].partition(": ")[2]
    return text


def first_cause(error: BaseException) -> BaseException:
    """What Hydra has wrapped, if it has."""
    while isinstance(error, HydraException) and error.__cause__ is not None:
        error = error.__cause__
    return error
