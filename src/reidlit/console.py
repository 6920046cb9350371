"""Console output of commands."""

import os

from rich.console import Console


def is_main_process() -> bool:
    """Return True in the process of global rank 0, and outside a distributed job."""
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def say(text: str) -> None:
    """Print text without markup or wrapping, in the main process only."""
    if is_main_process():
        Console().print(text, highlight=False, soft_wrap=True, markup=False)
