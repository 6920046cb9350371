"""What a user reads when something is wrong: one message with the way out."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

USER_ERRORS = (ValueError, OSError, HydraException, OmegaConfBaseException)
LOST_WORKER = "DataLoader worker"  # how torch begins to tell of a loader process that has died
LOADER = "torch.utils.data.dataloader"
WRONG_KINDS = (TypeError, AttributeError, ArithmeticError, LookupError, RuntimeError, AssertionError)
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
def wrong_kinds_named() -> Iterator[None]:
    """Name the settings that were given where a value of a wrong kind, such as a word for a number, stops what is built.

    Raises:
        ValueError: in place of Python's own errors; with HYDRA_FULL_ERROR=1 they keep their tracebacks.
    """
    try:
        yield
    except Exception as error:
        cause = first_cause(error)
        if not isinstance(cause, WRONG_KINDS):
            raise
        given = " ".join(HydraConfig.get().overrides.task)
        raise ValueError(
            f"This cannot be built: {str(cause).strip() or type(cause).__name__}. One of the settings may be of a wrong kind, a "
            f"word for a number or null where something is needed; given were: {given or 'none'}. --help lists what they are "
            "by default, HYDRA_FULL_ERROR=1 shows where it happened."
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
