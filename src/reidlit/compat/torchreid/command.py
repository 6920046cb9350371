"""From overrides to a command line, or to the YAML of an experiment."""

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
MACHINE = ("data.root",)  # printed even if it equals the default, which differs between machines


def shortest(command: str, wanted: Mapping[str, Any], compose: Compose) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the group choices and the settings among `wanted` that differ from the defaults of the command.

    The key of a setting that does not exist by default begins with `+`, as Hydra requires.
    """
    choices: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    composed = compose(command)
    # One choice at a time, as a loss brings its sampler, and an engine parts of the model.
    while differing := [key for key in wanted if wanted[key] != composed.hydra.runtime.choices.get(key, wanted[key])]:
        choices[differing[0]] = wanted[differing[0]]
        composed = compose(command, words(choices))
    for key, value in wanted.items():
        default = OmegaConf.select(composed, key, default=MISSING)
        if key not in composed.hydra.runtime.choices and (default != value or key in MACHINE):
            settings[f"+{key}" if default is MISSING else key] = value
    compose(command, words(choices | settings))  # so that a command that Hydra would refuse is never printed
    return choices, settings


def words(overrides: Mapping[str, Any]) -> list[str]:
    """Format overrides as words of Hydra's command line."""
    return [f"{key}={format_override(value)}" for key, value in overrides.items()]


def command_line(command: Sequence[str], overrides: Mapping[str, Any]) -> str:
    """Format a command for a shell, with one override per line."""
    return " \\\n  ".join([" ".join(map(quote, command)), *map(quote, words(overrides))])


def quote(word: str) -> str:
    """Quote a word for a shell; double quotes keep Hydra's single quotes readable where a shell replaces nothing."""
    return f'"{word}"' if "'" in word and not re.search(r"[\"$`\\!]", word) else shlex.quote(word)


def comments(title: str, remarks: Sequence[str]) -> str:
    """Format a title and remarks as comment lines."""
    wrap = textwrap.TextWrapper(110, subsequent_indent="#   ", break_on_hyphens=False, break_long_words=False)
    return "\n".join(wrap.fill(text) for text in (f"# {title}", *(f"# - {remark}" for remark in remarks)))


def experiment(
    file: Path, text: str, choices: Mapping[str, Any], settings: Mapping[str, Any], compose: Compose
) -> tuple[str, str]:
    """Return the content of an experiment, and the shell commands that run it.

    Settings of no group are set by conf/train.yaml itself, which overrides experiments, so they go to the command line.
    """
    groups = compose("train").hydra.runtime.choices
    content = OmegaConf.create({"defaults": [{f"override /{key}": value} for key, value in choices.items()]})
    outside = {}
    for key, value in settings.items():
        if key.lstrip("+").partition(".")[0] in groups:
            OmegaConf.update(content, key.lstrip("+"), value)
        else:
            outside[key] = value
    folder = file.parent if file.parent.name == "experiment" else file.parent / "experiment"
    lines = [command_line(["reidlit", "train", "--config-dir", str(folder.parent), f"experiment={file.stem}"], outside)]
    command = lines[0].replace("\n", "\n# ")
    if folder != file.parent:
        lines = [shlex.join(["mkdir", "-p", str(folder)]), shlex.join(["mv", str(file), str(folder)]), *lines]
    return f"# @package _global_\n# {command}\n{text}\n{OmegaConf.to_yaml(content)}", "\n".join(lines)
