"""Formatting of overrides as a command line or as the YAML file of an experiment."""

import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from reidlit.compat.torchreid.settings import Compose
from reidlit.overrides import format_override

MISSING = object()
MACHINE = ("data.root",)  # always printed, because the default depends on the machine


def shortest(command: str, wanted: Mapping[str, Any], compose: Compose) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the group choices and settings in `wanted` that differ from the defaults of the command.

    Keys that do not exist by default get the prefix `+`, as Hydra requires.
    """
    choices: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    composed = compose(command)
    # One choice at a time, because a loss selects its sampler, and an engine selects components of the model.
    while different := [key for key in wanted if wanted[key] != composed.hydra.runtime.choices.get(key, wanted[key])]:
        choices[different[0]] = wanted[different[0]]
        composed = compose(command, words(choices))
    for key, value in wanted.items():
        default = OmegaConf.select(composed, key, default=MISSING)
        if key not in composed.hydra.runtime.choices and (default != value or key in MACHINE):
            settings[f"+{key}" if default is MISSING else key] = value
    compose(command, words(choices | settings))  # raises an error for commands that Hydra would reject
    return choices, settings


def words(overrides: Mapping[str, Any]) -> list[str]:
    """Format overrides as arguments of Hydra's command line."""
    return [f"{key}={format_override(value)}" for key, value in overrides.items()]


def command_line(command: Sequence[str], overrides: Mapping[str, Any]) -> str:
    """Format a shell command with one override per line."""
    return " \\\n  ".join([" ".join(map(quote, command)), *map(quote, words(overrides))])


def quote(word: str) -> str:
    """Quote an argument for a shell, with double quotes if it contains single quotes and nothing to expand."""
    return f'"{word}"' if "'" in word and not re.search(r"[\"$`\\!]", word) else shlex.quote(word)


def comments(title: str, remarks: Sequence[str]) -> str:
    """Format a title and remarks as comment lines."""
    wrap = textwrap.TextWrapper(110, subsequent_indent="#   ", break_on_hyphens=False, break_long_words=False)
    return "\n".join(wrap.fill(text) for text in (f"# {title}", *(f"# - {remark}" for remark in remarks)))


def experiment(
    file: Path, text: str, choices: Mapping[str, Any], settings: Mapping[str, Any], compose: Compose
) -> tuple[str, str]:
    """Return the content of an experiment file, and the shell commands that run it.

    Settings outside config groups are set in conf/train.yaml, which overrides experiments, so they are passed on the
    command line.
    """
    groups = compose("train").hydra.runtime.choices
    content = OmegaConf.create({"defaults": [{f"override /{key}": value} for key, value in choices.items()]})
    command_overrides = {}
    for key, value in settings.items():
        if key.lstrip("+").partition(".")[0] in groups:
            OmegaConf.update(content, key.lstrip("+"), value)
        else:
            command_overrides[key] = value
    folder = file.parent if file.parent.name == "experiment" else file.parent / "experiment"
    lines = [
        command_line(
            ["reidlit", "train", "--config-dir", str(folder.parent), f"experiment={file.stem}"], command_overrides
        )
    ]
    command = lines[0].replace("\n", "\n# ")
    if folder != file.parent:
        lines = [shlex.join(["mkdir", "-p", str(folder)]), shlex.join(["mv", str(file), str(folder)]), *lines]
    return f"# @package _global_\n# {command}\n{text}\n{OmegaConf.to_yaml(content)}", "\n".join(lines)
