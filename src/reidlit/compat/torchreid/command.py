"""From overrides to a command line, or to the YAML of an experiment."""

import re
import shlex
import textwrap
from collections.abc import Sequence
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from reidlit.compat.torchreid.result import Override, Remark
from reidlit.overrides import text

WIDTH = 110
MISSING = object()


def shortest(command: str, wanted: Sequence[Override]) -> tuple[list[Override], list[Override]]:
    """The choices and the settings that change what `reidlit <command>` does by itself; of two with one key, the last.

    The key of a setting that is not there by itself begins with `+`, as Hydra wants it.

    Raises:
        HydraException: if they do not compose.
    """
    last = {each.key: each for each in wanted}
    choices: list[Override] = []
    composed = _composed(command, choices)
    groups = composed.hydra.runtime.choices
    # One at a time, as a loss brings a sampler, and an engine a part of the model.
    while missing := [each for key, each in last.items() if key in groups and groups[key] != each.value]:
        choices.append(missing[0])
        composed = _composed(command, choices)
        groups = composed.hydra.runtime.choices
    settings = []
    for each in last.values():
        value = OmegaConf.select(composed, each.key, default=MISSING)
        if each.key in groups:
            continue
        if value is MISSING:
            settings.append(each._replace(key=f"+{each.key}"))
        elif each.always or value != each.value:
            settings.append(each)
    _composed(command, [*choices, *settings])
    return choices, settings


def _composed(command: str, overrides: Sequence[Override]) -> DictConfig:
    return compose(command, [argument(each) for each in overrides], return_hydra_config=True)


def argument(override: Override) -> str:
    """`key=value`."""
    return f"{override.key}={text(override.value)}"


def pasted(command: Sequence[str], words: Sequence[str]) -> str:
    """A command as a shell reads it, with a word a line after the command itself."""
    return " \\\n  ".join([" ".join(map(quoted, command)), *map(quoted, words)])


def quoted(word: str) -> str:
    """A word as a shell reads it; with Hydra's single quotes inside it stays readable where it can."""
    return f'"{word}"' if "'" in word and not re.search(r"[\"$`\\!]", word) else shlex.quote(word)


def commented(title: str, remarks: Sequence[Remark]) -> str:
    """A title and the remarks as comments."""
    lines = textwrap.wrap(title, WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False)
    for remark in remarks:
        lines += textwrap.wrap(
            remark.text,
            WIDTH,
            initial_indent="# - ",
            subsequent_indent="#   ",
            break_on_hyphens=False,
            break_long_words=False,
        )
    return "\n".join(lines)


def experiment(choices: Sequence[Override], settings: Sequence[Override]) -> tuple[str, list[Override]]:
    """The text of an experiment's YAML without its comments, and what can only be said on the command line.

    That is what conf/train.yaml itself sets, which counts more than an experiment: what lies in none of its groups.
    """
    groups = _composed("train", []).hydra.runtime.choices
    content: dict[str, Any] = {"defaults": [{f"override /{each.key}": each.value} for each in choices]}
    outside = []
    for each in settings:
        *path, name = each.key.removeprefix("+").split(".")
        if not path or path[0] not in groups:
            outside.append(each)
            continue
        node = content
        for part in path:
            node = node.setdefault(part, {})
        node[name] = each.value
    return OmegaConf.to_yaml(OmegaConf.create(content)).rstrip(), outside
