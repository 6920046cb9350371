"""The command table, and the hand-off of a command to Hydra and its task.

Only Hydra is imported here: `reidlit --help` and shell completion must answer at once.
"""

import gc
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from reidlit import __version__
from reidlit.config import CONFIG_DIR

if TYPE_CHECKING:
    from omegaconf import DictConfig

COMMANDS = {
    "train": "train a model, then test it",
    "test": "score a checkpoint or a weight file on a dataset",
    "prepare": "fetch, unpack and verify a dataset",
    "doctor": "examine a dataset before training on it",
    "search": "find a person in a folder of images or a gallery",
    "verify": "tell whether two images show the same person",
    "extract": "embed a dataset or a folder of images",
    "predict": "tell the attributes of images",
    "export": "write a model for another runtime, and compare it",
    "visualize": "draw where a model looks",
    "report": "write one HTML page of a run",
    "aggregate": "mean and spread of several runs",
    "dashboard": "make a W&B workspace that shows runs",
    "profile": "measure the size, work and speed of models, or list them all",
    "migrate": "turn a configuration of Torchreid into a command",
}

# A command's arguments without a name, and the setting that they are.
UNNAMED = {"verify": "images", "aggregate": "runs", "migrate": "arguments"}
NAMED = re.compile(r"[~+]|-(?!\d)|.*=")  # an override, or one of Hydra's flags, which no negative number is
WITH_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--cfg", "-c")

USAGE = f"""reidlit {__version__}: person re-identification

usage: reidlit <command> [option=value ...]

commands:
{chr(10).join(f"  {name:<10}{line}" for name, line in COMMANDS.items())}

examples:
  reidlit train                                     OSNet x0.25 on drawn data, nothing to download
  reidlit train model=osnet_x1_0 data=market1501
  reidlit train -m model=osnet_x0_25,osnet_x0_5 seed=1,2,3
  reidlit train resume_sweep=runs/multirun/<date>   go on with a sweep that was cut
  reidlit test data=market1501 ckpt_path=last

help:
  reidlit <command> --help         its option groups and settings
  reidlit <command> --cfg job      the settings as they would be used
  eval "$(reidlit train -sc install=bash)"          shell completion (bash; zsh and fish alike)
"""


def main() -> None:
    """Run the command that `sys.argv` names."""
    argv = list(sys.argv)
    if "-sc" in argv:
        argv = _completion_argv(argv)
    name = argv[1] if len(argv) > 1 else "--help"
    if name in ("-h", "--help", "help"):
        sys.stdout.write(f"{USAGE}\n")
        return
    if name in ("-V", "--version"):
        sys.stdout.write(f"{__version__}\n")
        return
    if name not in COMMANDS:
        sys.exit(f"reidlit: no command {name!r}; there are: {', '.join(COMMANDS)}. See reidlit --help.")
    # A console script has its own folder on the path, not the user's, where a user's own model or dataset lies.
    sys.path.insert(0, str(Path.cwd()))
    _launch(name, argv)


def _launch(name: str, argv: list[str]) -> None:
    """Compose the command's configuration with Hydra and run its task."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from reidlit.commands._optuna_sweeper import register
    from reidlit.runs.sweep import resumed_arguments

    here = str(Path.cwd())

    def run(cfg: "DictConfig") -> float | None:
        sys.argv = argv  # Lightning starts the other ranks of a run on several devices with this command line
        if here not in sys.path:  # in a process that a launcher has started
            sys.path.insert(0, here)
        with _imported_for_good():
            task = import_module(f"reidlit.commands.{name}").run
            from reidlit.commands._errors import explained
            from reidlit.commands._settings import trust_chosen

        with explained(name):
            trust_chosen(cfg)
            hydra_cfg = HydraConfig.get()
            if hydra_cfg.mode is RunMode.MULTIRUN and "sweep" in hydra_cfg.callbacks:
                from reidlit.commands._sweep_job import run_job

                return run_job(name, task, cfg)
            result: float | None = task(cfg)
        return result

    try:
        sys.argv = [argv[0], *resumed_arguments(name, _named(name, argv[2:]))]
    except (ValueError, OSError) as error:
        sys.exit(f"reidlit {name}: {error}")
    register()
    try:
        hydra.main(config_path=str(CONFIG_DIR), config_name=name, version_base="1.3")(run)()
    except KeyboardInterrupt:  # while a launcher waits for its jobs
        sys.stderr.write(f"\nreidlit {name}: interrupted.\n")
        sys.exit(130)


@contextmanager
def _imported_for_good() -> Iterator[None]:
    """Keep the garbage collector from what is imported.

    It lives as long as the process, and would be looked through again and again while it grows, and once more at the end,
    which takes seconds.
    """
    if "torch" in sys.modules:  # in a process of others, who have garbage of their own
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _named(command: str, arguments: list[str]) -> list[str]:
    """The arguments with a setting for those that have no name, in commands that take such; quoted, as Hydra reads them."""
    pairs = list(zip(["", *arguments], arguments, strict=False))
    nameless = [command in UNNAMED and not NAMED.match(item) and before not in WITH_VALUE for before, item in pairs]
    if not any(nameless):
        return arguments
    from reidlit.overrides import format_override

    texts = format_override([item for item, alone in zip(arguments, nameless, strict=True) if alone])
    named = [item for item, alone in zip(arguments, nameless, strict=True) if not alone]
    return [*named, f"{UNNAMED[command]}={texts}"]


def _completion_argv(argv: list[str]) -> list[str]:
    """Take the command out of the line that the shell completes; Hydra knows only what follows it.

    While the command itself is being typed, print the commands and stop.
    """
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    if not line:  # installing: any command's parser will do
        return argv if len(argv) > 1 and argv[1] in COMMANDS else [argv[0], "train", *argv[1:]]
    if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        typed = words[1] if len(words) > 1 else ""
        sys.stdout.write(" ".join(name for name in COMMANDS if name.startswith(typed)) + "\n")
        raise SystemExit
    shortened = line.replace(f"{words[1]} ", "", 1) if line.endswith(" ") or len(words) > 2 else line
    os.environ["COMP_LINE"] = shortened
    command = words[1] if words[1] in COMMANDS else "train"
    return [argv[0], command, *(word for word in argv[1:] if word not in COMMANDS)]
