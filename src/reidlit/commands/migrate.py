"""`reidlit migrate`: translate a Torchreid configuration to a reidlit command or experiment."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from omegaconf import DictConfig

from reidlit.compat.torchreid.command import command_line, comments, experiment, shortest
from reidlit.compat.torchreid.translate import complete_settings, translate
from reidlit.config import options
from reidlit.files import atomic_write
from reidlit.foreign_files import expanded
from reidlit.locks import locked


def run(cfg: DictConfig) -> None:
    """Print the command or write the experiment, with comments on differences and missing counterparts.

    Raises:
        ValueError: If an argument is invalid, or `output` cannot be written.
    """
    arguments = [str(argument) for argument in cfg.arguments]
    command, wanted, remarks = translate(complete_settings(arguments, _compose))
    choices, settings = shortest(command, wanted, _compose)
    text = comments(f"Torchreid: {' '.join(arguments)}", remarks)
    folders = [s.path for s in HydraConfig.get().runtime.config_sources if s.provider == "command-line"]
    if cfg.output is None:
        flags = [word for folder in folders for word in ("--config-dir", folder)]
        sys.stdout.write(f"{text}\n{command_line(['reidlit', command, *flags], choices | settings)}\n")
    elif command == "train":
        file = expanded(str(cfg.output))
        with locked(file, name="output"):
            _check_output(file, folders)
            content, instructions = experiment(file, text, choices, settings, _compose)
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(file, content)
        sys.stdout.write(f"# Wrote {file}. Run it with:\n{instructions}\n")
    else:
        raise ValueError(f"output={cfg.output} is for training, but test.evaluate is True: omit output.")


def _check_output(file: Path, config_dirs: Sequence[str]) -> None:
    reserved = options("experiment")
    if not re.fullmatch(r"[A-Za-z_][\w-]*\.yaml", file.name) or file.stem in reserved:
        raise ValueError(
            f"output={file} is invalid: must be <name>.yaml, with a name other than {', '.join(reserved)}."
        )
    if file.exists():
        raise ValueError(f"output={file} already exists: choose another name or delete it.")
    root = file.parent.parent if file.parent.name == "experiment" else file.parent
    for folder in config_dirs:
        if Path(folder).resolve() != root.resolve():
            raise ValueError(
                f"output={file} must be in {folder}/experiment, because Hydra accepts only one --config-dir."
            )


def _compose(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    try:
        return compose(name, list(overrides), return_hydra_config=True)
    except MissingConfigException as error:
        raise ValueError(
            f"conf/{name}.yaml does not exist. Write a YAML file for your dataset or model (see the guides on custom "
            "datasets and models), then add --config-dir <folder> to this command."
        ) from error
