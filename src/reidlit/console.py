"""Console output of commands; the only module that writes names and messages to the terminal."""

import os
import sys
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from reidlit.escaping import for_terminal


class PlainConsole(Console):
    """Console that shows strings as they are: without markup and emoji codes, and with control characters escaped."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as plain text; rich calls this method for every string, also for cells of tables."""
        return super().render_str(for_terminal(text), **options | {"markup": False, "emoji": False, "highlight": False})


def is_main_process() -> bool:
    """Return True in the process of global rank 0, and outside a distributed job."""
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def say(text: str | Text) -> None:
    """Print text without markup or wrapping, in the main process only; the control characters of a str are escaped."""
    if is_main_process():
        PlainConsole().print(text, soft_wrap=True)


def show(renderable: RenderableType) -> None:
    """Print a table or a text, wrapped to the width of the terminal; control characters in strings are escaped."""
    PlainConsole().print(renderable)


def complain(text: str) -> None:
    """Write an error message to stderr."""
    sys.stderr.write(f"{for_terminal(text)}\n")
