"""Sweep folder: its command line and its jobs.

This module is imported before a sweep starts, so it imports nothing heavier than OmegaConf.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reidlit.foreign_files import expanded, reading
from reidlit.overrides import format_override
from reidlit.runs.result import RunResult
from reidlit.runs.run_folder import HYDRA, RunFolder, Status
from reidlit.yaml_files import load_config

RESUME = "resume_sweep="
# A sweep folder may come from a stranger. Its overrides may only choose values: none may name code to run, read the
# environment, or change Hydra beyond the launcher and the sweeper.
OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@:-]*(=.*)?", re.DOTALL)
CODE_OR_ENVIRONMENT = re.compile(r"_target_|_args_|\$\{[^}]*:")
HYDRA_OVERRIDE = re.compile(r"[+~]*hydra(/launcher=|/sweeper=|\.sweeper\.|\.launcher\.n_jobs=|\.sweep\.dir=|\.mode=)")
MULTIRUN = "multirun.yaml"  # sweepers write it before the first job


@dataclass(frozen=True)
class SweepFolder:
    """Files of one sweep.

    Attributes:
        path: Path of the folder, `hydra.sweep.dir`.
    """

    path: Path

    @property
    def exists(self) -> bool:
        """True if a sweep was started in the folder."""
        return (self.path / MULTIRUN).is_file()

    def jobs(self) -> list["Job"]:
        """Read all jobs, sorted by number."""
        folders = [RunFolder(path.parents[1]) for path in self.path.rglob(f"{HYDRA}/overrides.yaml")]
        jobs = [Job.read(folder, folder.path.relative_to(self.path).as_posix()) for folder in folders]
        return sorted(jobs, key=lambda job: (len(job.name), job.name))

    def origin(self) -> "SweepOrigin":
        """Read the command and the settings that started the sweep."""
        file = self.path / MULTIRUN
        with reading(file, "Pass the folder of a sweep."):
            return SweepOrigin.of(load_config(file))


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        name: Path of its folder relative to the sweep folder.
        settings: Command-line settings by name.
        status: `finished`, `failed` or `unfinished`.
        result: Results of the job; empty unless it finished.
        error: First line of the error, or None.
    """

    name: str
    settings: Mapping[str, str]
    status: Status
    result: RunResult
    error: str | None

    @classmethod
    def read(cls, folder: RunFolder, name: str) -> "Job":
        """Read a job from its folder."""
        result = folder.result() or RunResult()
        return cls(name, folder.overrides(), folder.status(), result, folder.error())


@dataclass(frozen=True)
class SweepOrigin:
    """Command and settings that determine the jobs of a sweep.

    Attributes:
        command: Name of the command, such as `train`.
        task: Overrides of the command's configuration.
        hydra: Overrides of Hydra's configuration.
        sweeper: Dotted name of the sweeper, and its parameters.
    """

    command: str
    task: list[str]
    hydra: list[str]
    sweeper: tuple[str, Any]

    @classmethod
    def of(cls, config: Any) -> "SweepOrigin":
        """Extract the origin from the configuration of a sweep, including its `hydra` node."""
        content = OmegaConf.to_container(config._get_node("hydra"), resolve=False)  # interpolations are not resolved
        if not isinstance(content, dict):
            raise TypeError("hydra is not a mapping")
        overrides, sweeper, command = content["overrides"], content["sweeper"], content["job"]["config_name"]
        parameters = sweeper.get("params") or None
        if not all(isinstance(name, str) for name in (command, sweeper["_target_"])):
            raise TypeError("the command or the sweeper is not a name")
        return cls(command, list(overrides["task"]), list(overrides["hydra"]), (sweeper["_target_"], parameters))

    @property
    def command_line(self) -> str:
        """Command line that started the sweep."""
        return " ".join(["reidlit", self.command, "-m", *map(str, self.task)])


def resumed_arguments(command: str, arguments: Sequence[str]) -> list[str]:
    """Replace `resume_sweep=<folder>` with the original arguments of the sweep in that folder.

    Other arguments, such as `hydra/launcher=joblib`, follow and take precedence.

    Args:
        command: Name of the command.
        arguments: Command-line arguments of the command.

    Raises:
        FileNotFoundError: If no sweep was started in the folder.
        ValueError: If the folder contains a sweep of another command.
    """
    resumes = [item for item in arguments if item.startswith(RESUME)]
    if not resumes:
        return list(arguments)
    folder = SweepFolder(expanded(resumes[-1].removeprefix(RESUME).strip("'\"")))
    if not folder.exists:
        raise FileNotFoundError(
            f"{resumes[-1]} is not a sweep folder: {MULTIRUN} is missing. Pass a folder such as "
            "runs/multirun/<date>_<time>."
        )
    origin = folder.origin()
    if origin.command != command and not any(item.startswith(("--config-name", "-cn")) for item in arguments):
        raise ValueError(f"{resumes[-1]} is a `reidlit {origin.command}` sweep; resume it with that command.")
    new = [item for item in arguments if item not in (*resumes, "-m", "--multirun")]
    replaced = {_key(item) for item in new} | {"hydra.sweep.dir", "hydra.mode"}
    old = [item for item in (*origin.hydra, *origin.task) if _key(item) not in replaced]
    for item in old:
        _check_override(item, folder.path / MULTIRUN)
    return ["-m", *old, *new, f"hydra.sweep.dir={format_override(str(folder.path))}"]


def refuse_other_sweep(config: DictConfig) -> None:
    """Refuse to start a sweep in the folder of another sweep, because their job numbers collide.

    Args:
        config: Configuration of the sweep, including its `hydra` node.

    Raises:
        ValueError: If the folder contains jobs of another sweep, or runs.
    """
    folder = SweepFolder(Path(config.hydra.sweep.dir))
    if folder.exists:
        old, new = folder.origin(), SweepOrigin.of(config)
        if (old.command, old.task, old.sweeper) != (new.command, new.task, new.sweeper):
            raise ValueError(
                f"hydra.sweep.dir={folder.path} contains the sweep `{old.command_line}`. Resume it with "
                f"{RESUME}{folder.path}, or choose another folder. `reidlit aggregate` accepts several folders."
            )
    elif any(folder.path.glob(f"*/{HYDRA}")):
        raise ValueError(f"hydra.sweep.dir={folder.path} already contains runs: choose another folder.")


def _check_override(item: object, file: Path) -> None:
    """Check that an override read from a sweep folder only chooses a value.

    Raises:
        ValueError: If it could run code, read the environment, or change Hydra.
    """
    text = item if isinstance(item, str) else ""
    is_hydra = text.lstrip("+~").startswith(("hydra.", "hydra/"))
    if (
        not OVERRIDE.fullmatch(text)
        or CODE_OR_ENVIRONMENT.search(text)
        or (is_hydra and not HYDRA_OVERRIDE.match(text))
    ):
        raise ValueError(
            f"{file} contains the override {item!r}, which is refused because it could run code or read the environment. If "
            "the sweep is yours, repeat the override on the command line."
        )


def _key(argument: object) -> str:
    return str(argument).partition("=")[0]
