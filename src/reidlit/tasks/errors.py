"""What a user reads when something is wrong: one message with the way out."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from hydra.errors import HydraException

USER_ERRORS = (ValueError, OSError, HydraException)


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
    except KeyboardInterrupt:
        sys.stderr.write(f"\nreidlit {command}: interrupted.\n")
        raise SystemExit(INTERRUPTED) from None


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
    while isinstance(error, HydraException) and error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip()
    if "Original Traceback" in text:  # from a loader process: the last line holds the message
        text = text.splitlines()[-1].partition(": ")[2]
    return text
