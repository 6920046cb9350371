"""What a user reads when something is wrong: one message with the way out."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

USER_ERRORS = (ValueError, OSError, HydraException, OmegaConfBaseException)
LOST_WORKER = "DataLoader worker"  # how torch begins to tell of a loader process that has died
WRONG_KINDS = (TypeError, AttributeError, ArithmeticError, LookupError, RuntimeError, AssertionError)
INTERRUPTED = 130  # what a shell gives for Ctrl-C


@contextmanager
def explained(command: str) -> Iterator[None]:
    """Turn an error that a user can mend into one message on stderr and exit status 1.

    With HYDRA_FULL_ERROR=1 it keeps its traceback, as all others do.
    """
    try:
        yield
    except USER_ERRORS as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        sys.stderr.write(f"reidlit {command}: {message(error)}\n")
        raise SystemExit(1) from None
    except RuntimeError as error:
        if not str(error).startswith(LOST_WORKER) or os.environ.get("HYDRA_FULL_ERROR"):
            raise
        sys.stderr.write(
            f"reidlit {command}: {str(error).splitlines()[0]} A process that reads images was ended from outside, most often "
            "because memory ran out: lower data.num_workers or data.batch_size; data.num_workers=0 reads in the main process. "
            "What was trained is in the last checkpoint: add ckpt_path=last to the same command to go on from it.\n"
        )
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        sys.stderr.write(f"\nreidlit {command}: interrupted.\n")
        raise SystemExit(INTERRUPTED) from None


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
