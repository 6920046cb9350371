"""`reidlit migrate`: a configuration of Torchreid as the command line, or the experiment, that does the same here."""

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from reidlit.compat.torchreid.command import argument, commented, experiment, pasted, shortest
from reidlit.compat.torchreid.result import Override
from reidlit.compat.torchreid.settings import read_settings
from reidlit.compat.torchreid.table import translate
from reidlit.config import options

FOLDER = "experiment"  # where Hydra looks for experiments


def run(cfg: DictConfig) -> None:
    """Print the command and, as comments before it, what differs or has no counterpart.

    Raises:
        FileNotFoundError: if the file of Torchreid is not there.
        ValueError: if it holds what Torchreid does not know or would refuse, or `output` cannot be written.
    """
    arguments = [str(each) for each in cfg.arguments]
    command, wanted, remarks = translate(read_settings(arguments))
    choices, settings = shortest(command, wanted)
    told = commented(f"Torchreid: {' '.join(arguments)}", remarks)
    if cfg.output is None:
        folders = [word for folder in _config_dirs() for word in ("--config-dir", folder)]
        words = [argument(each) for each in (*choices, *settings)]
        lines = [told, pasted(["reidlit", command, *folders], words)]
    elif command == "train":
        content, outside = experiment(choices, settings)
        lines = _write(Path(str(cfg.output)).expanduser(), f"{told}\n{content}\n", outside)
    else:
        raise ValueError(
            f"output={cfg.output} would be an experiment of reidlit train, but test.evaluate is True: leave output= out."
        )
    sys.stdout.write("\n".join(lines) + "\n")


def _write(file: Path, text: str, outside: Sequence[Override]) -> list[str]:
    """Write an experiment; how to run it.

    Raises:
        ValueError: if another experiment or file has its name, or Hydra would not find it.
    """
    if not re.fullmatch(r"[A-Za-z_][\w-]*\.yaml", file.name) or file.stem in options(FOLDER):
        raise ValueError(
            f"output={file} must be called <name>.yaml, of letters, digits, - and _, and not as one of the experiments "
            f"here: {', '.join(options(FOLDER))}."
        )
    if file.exists():
        raise ValueError(f"output={file} is there already: name another file, or remove it.")
    inside = file.parent.name == FOLDER
    above = file.parent.parent if inside else file.parent
    for folder in _config_dirs():
        if Path(folder).resolve() != above.resolve():
            raise ValueError(f"output={file} must lie in {folder}/{FOLDER}, as Hydra takes one --config-dir.")
    words = [argument(each) for each in outside]
    command = pasted(["reidlit", "train", "--config-dir", str(above), f"{FOLDER}={file.stem}"], words)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    part.write_text(f"# @package _global_\n# {command.replace(chr(10), chr(10) + '# ')}\n{text}", encoding="utf-8")
    part.replace(file)
    move = (
        []
        if inside
        else [shlex.join(["mkdir", "-p", str(above / FOLDER)]), shlex.join(["mv", str(file), str(above / FOLDER)])]
    )
    return [f"# {file} is written. To run it:", *move, command]


def _config_dirs() -> list[str]:
    """The folder of options of their own that a user has given, which the other command needs as well."""
    sources = HydraConfig.get().runtime.config_sources
    return [str(each.path) for each in sources if each.provider == "command-line"]
