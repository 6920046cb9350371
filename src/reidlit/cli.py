"""Entry point of the command line: help, shell completion, and the hand-off of a command to Hydra.

Hydra and the commands are imported only when a command runs, so that help and shell completion answer at once.
"""

import gc
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from reidlit import __version__
from reidlit.config import CONFIG_DIR
from reidlit.escaping import for_terminal

if TYPE_CHECKING:
    from omegaconf import DictConfig

# In the order of `reidlit --help`. `conf/<command>.yaml` describes a command and its options.
COMMANDS = (
    "train",
    "test",
    "prepare",
    "doctor",
    "search",
    "verify",
    "extract",
    "predict",
    "export",
    "visualize",
    "report",
    "aggregate",
    "dashboard",
    "profile",
    "migrate",
)
POSITIONAL = {"verify": "images", "aggregate": "runs", "migrate": "arguments"}  # option that positional arguments set
NOT_POSITIONAL = re.compile(r"[~+]|-(?!\d)|.*=")  # an override or a flag, but not a negative number
CONFIG_DIR_FLAGS = ("--config-dir", "-cd")
FLAGS_WITH_VALUE = (
    *CONFIG_DIR_FLAGS,
    *("--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--cfg", "-c"),
)
HELP_FLAGS = ("-h", "--help")
HYDRA_HELP = "--help-all"  # Hydra's own `--help`


def main() -> None:
    """Run the command that `sys.argv` names."""
    argv = list(sys.argv)
    if "-sc" in argv:
        argv = _completion_argv(argv)
    if len(argv) > 2 and argv[1] in ("help", *HELP_FLAGS):
        argv = [argv[0], argv[2], "--help", *argv[3:]]
    name, *arguments = argv[1:] or ["help"]
    if name in ("help", *HELP_FLAGS):
        from reidlit.help.terminal import format_overview

        sys.stdout.write(f"{format_overview(__version__, COMMANDS)}\n")
        return
    if name in ("-V", "--version"):
        sys.stdout.write(f"{__version__}\n")
        return
    if name not in COMMANDS:
        similar = get_close_matches(name, COMMANDS)
        hint = f" Similar: {', '.join(similar)}." if similar else ""
        sys.exit(f"reidlit: command {name!r} does not exist.{hint} See reidlit --help.")
    if set(HELP_FLAGS) & set(arguments):
        _print_help(name, arguments)
        return
    _launch(name, ["--help" if argument == HYDRA_HELP else argument for argument in argv])


def _print_help(command: str, arguments: Sequence[str]) -> None:
    """Print the help page of a command, or of the topics after the help flag."""
    from reidlit.help.terminal import format_help

    position = next(index for index, argument in enumerate(arguments) if argument in HELP_FLAGS)
    after_flag = [flag in FLAGS_WITH_VALUE for flag in ("", *arguments)]
    words = [
        (index, argument)
        for index, (argument, is_value) in enumerate(zip(arguments, after_flag, strict=False))
        if not is_value and not argument.startswith("-")
    ]
    try:
        page = format_help(
            command,
            topics=[word for index, word in words if index > position],
            overrides=[word for index, word in words if index < position],
            positional=POSITIONAL.get(command),
            config_dirs=_config_dirs(arguments),
        )
    except ValueError as error:
        sys.exit(for_terminal(f"reidlit {command}: {error}"))
    sys.stdout.write(f"{page}\n")


def _launch(name: str, argv: list[str]) -> None:
    """Compose the configuration of a command with Hydra and run the command."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from reidlit.commands._folder_lock import folders_released, job_folder_locked
    from reidlit.commands._optuna_sweeper import register
    from reidlit.runs.sweep import resumed_arguments

    config_dirs = [str(Path(folder).resolve()) for folder in _config_dirs(argv)]

    def run(cfg: "DictConfig") -> float | None:
        sys.argv = argv  # Lightning starts the other ranks of a multi-device run with this command line
        # Custom components are next to their YAML files. At the end of the path, these folders cannot shadow a package; the
        # current folder, which may contain anything, is not on the path at all.
        sys.path.extend(folder for folder in config_dirs if folder not in sys.path)
        with _freeze_imports():
            task = import_module(f"reidlit.commands.{name}").run
            from reidlit.commands._errors import explained
            from reidlit.commands._settings import trust_chosen

        with explained(name):
            trust_chosen(cfg)
            hydra_cfg = HydraConfig.get()
            is_job = hydra_cfg.mode is RunMode.MULTIRUN
            with job_folder_locked(Path(hydra_cfg.runtime.output_dir)) if is_job else nullcontext():
                if is_job and "sweep" in hydra_cfg.callbacks:
                    from reidlit.commands._sweep_job import run_job

                    return run_job(name, task, cfg)
                result: float | None = task(cfg)
        return result

    try:
        sys.argv = [argv[0], *_flags_first(resumed_arguments(name, _named(name, argv[2:])))]
    except (ValueError, OSError) as error:
        sys.exit(for_terminal(f"reidlit {name}: {error}"))
    register()
    try:
        with folders_released():
            hydra.main(config_path=str(CONFIG_DIR), config_name=name, version_base="1.3")(run)()
    except KeyboardInterrupt:  # while a launcher waits for its jobs
        sys.stderr.write(f"\nreidlit {name}: interrupted.\n")
        sys.exit(130)


@contextmanager
def _freeze_imports() -> Iterator[None]:
    """Exclude imported modules from garbage collection.

    They live as long as the process. Without this, the collector rescans them on every collection while they are imported,
    and once more at exit, which takes seconds.
    """
    if "torch" in sys.modules:  # a host process may already hold garbage of its own, which must be collected
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _config_dirs(arguments: Sequence[str]) -> list[str]:
    """Return the folders of `--config-dir folder` and `--config-dir=folder`."""
    separate = [value for flag, value in pairwise(arguments) if flag in CONFIG_DIR_FLAGS]
    joined = [
        value for flag, _, value in (word.partition("=") for word in arguments) if flag in CONFIG_DIR_FLAGS and value
    ]
    return [*separate, *joined]


def _flags_first(arguments: Sequence[str]) -> list[str]:
    """Move flags and their values before the overrides; Hydra accepts no override after a flag between overrides."""
    follows_flag = [word in FLAGS_WITH_VALUE for word in ("", *arguments)]
    is_flag = [
        is_value or bool(re.match(r"-(?!\d)", word)) for word, is_value in zip(arguments, follows_flag, strict=False)
    ]
    flags = [word for word, first in zip(arguments, is_flag, strict=True) if first]
    return [*flags, *(word for word, first in zip(arguments, is_flag, strict=True) if not first)]


def _named(command: str, arguments: list[str]) -> list[str]:
    """Replace the positional arguments of a command by one override, quoted for Hydra."""
    if command not in POSITIONAL:
        return arguments
    pairs = list(zip(["", *arguments], arguments, strict=False))
    positional = [not NOT_POSITIONAL.match(word) and before not in FLAGS_WITH_VALUE for before, word in pairs]
    if not any(positional):
        return arguments
    from reidlit.overrides import format_override

    values = format_override([word for word, is_value in zip(arguments, positional, strict=True) if is_value])
    others = [word for word, is_value in zip(arguments, positional, strict=True) if not is_value]
    return [*others, f"{POSITIONAL[command]}={values}"]


def _completion_argv(argv: list[str]) -> list[str]:
    """Remove the command from the line that the shell completes, because Hydra expects only the arguments after it.

    While the command itself is being typed, print the matching commands and exit.
    """
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    if not line:  # installation, which works with the parser of any command
        return argv if len(argv) > 1 and argv[1] in COMMANDS else [argv[0], "train", *argv[1:]]
    if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        typed = words[1] if len(words) > 1 else ""
        sys.stdout.write(" ".join(name for name in COMMANDS if name.startswith(typed)) + "\n")
        raise SystemExit
    shortened = line.replace(f"{words[1]} ", "", 1) if line.endswith(" ") or len(words) > 2 else line
    os.environ["COMP_LINE"] = shortened
    command = words[1] if words[1] in COMMANDS else "train"
    return [argv[0], command, *(word for word in argv[1:] if word not in COMMANDS)]
