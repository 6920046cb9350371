"""Torchreid's settings: how a table describes them, and how they are read from a file and the command line."""

import ast
import math
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig

Outcome = tuple[str, Any] | str  # an override as (key, value), or a remark
Compose = Callable[..., DictConfig]  # of the name of a config and overrides, as Hydra does; ValueError if unknown
EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text in one line without ${"}


@dataclass(frozen=True)
class Settings:
    """Torchreid settings of a run.

    Attributes:
        values: All values by dotted name, including Torchreid's defaults.
        given: Names given by the user.
        changed: Names whose given value differs from Torchreid's default.
        compose: Function that composes a config of reidlit, to look up its choices.
    """

    values: Mapping[str, Any]
    given: frozenset[str]
    changed: frozenset[str]
    compose: Compose

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


Rule = Callable[[Settings], Iterable[Outcome]]


class Row(NamedTuple):
    """What becomes of a Torchreid setting.

    Attributes:
        default: Torchreid's default, which also determines the type.
        commands: Commands of reidlit to which the setting applies.
        becomes: Key of reidlit that takes the value, overrides for each value, or a rule; None: no counterpart.
        remark: Remark for values that differ from the default.
        needs: Another setting without which Torchreid ignores this one, and its required values (none: any true value).
        choices: Allowed values; empty if any is.
        only_given: Whether to keep the default of reidlit, which suits the machine, unless the setting is given.
    """

    default: Any
    commands: tuple[str, ...]
    becomes: str | Mapping[Any, Mapping[str, Any]] | Rule | None = None
    remark: str = ""
    needs: tuple[Any, ...] = ()
    choices: tuple[str, ...] = ()
    only_given: bool = False


def read_settings(arguments: Sequence[str], table: Mapping[str, Row]) -> dict[str, Any]:
    """Read the settings given in a YAML file and in key-value pairs, which override the file.

    Args:
        arguments: Path of the file followed by `model.name`, `resnet50` and so on, or only such pairs.
        table: Torchreid's settings by name.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is invalid, a setting is unknown, or a value does not fit its setting.
    """
    if not arguments:
        raise ValueError("give a YAML file of Torchreid: reidlit migrate im_osnet_x1_0.yaml model.name resnet50")
    files, pairs = ([], arguments) if arguments[0] in table else (arguments[:1], arguments[1:])
    if len(pairs) % 2:
        raise ValueError(f"{pairs[-1]} has no value: after the file come keys and values, such as model.name resnet50.")
    given = {name: value for file in files for name, value in _flat(_read_yaml(file), "", table)}
    given |= zip(pairs[::2], pairs[1::2], strict=True)
    return {name: _checked(name, value, table) for name, value in given.items()}


def _read_yaml(name: str) -> Mapping[Any, Any]:
    file = Path(name).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{name} does not exist: give a YAML file of Torchreid.")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not a YAML file of plain values: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{name} must contain settings by name, as Torchreid's configurations do.")
    return content


def _flat(node: Mapping[Any, Any], prefix: str, table: Mapping[str, Row]) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if name in table or not any(known.startswith(f"{name}.") for known in table):
            yield name, value
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{name}.", table)
        else:
            raise ValueError(f"{name}={reprlib.repr(value)} must contain settings by name.")


def _checked(name: str, value: Any, table: Mapping[str, Row]) -> Any:
    """Return the value with the type of the default; text may be written as in Python, a list also as `a,b`."""
    if name not in table:
        near = "".join(f" Did you mean {known}?" for known in get_close_matches(name, table, n=1))
        raise ValueError(
            f"{name!r} is not a setting of Torchreid's scripts/main.py.{near} Remove settings of your own."
        )
    default, choices = table[name].default, table[name].choices
    is_list = isinstance(default, list)
    kind = type(default[0] if is_list else default)
    if isinstance(value, str) and (is_list or kind is not str):
        value = _parsed(value, is_list)
    items = list(value) if is_list and isinstance(value, list | tuple) else [value]
    fits_length = {float: len(items) == len(default), int: bool(items)} if is_list else {}
    if not fits_length.get(kind, True) or not all(_fits(item, kind) for item in items):
        expected = f"a list, each {EXPECTED[kind]}" if is_list else EXPECTED[kind]
        raise ValueError(f"{name}={reprlib.repr(value)} must be {expected}.")
    if choices and value not in choices:
        raise ValueError(f"{name}={value} must be one of {', '.join(choices)}.")
    return [kind(item) for item in items] if is_list else kind(value)


def _parsed(text: str, is_list: bool) -> Any:
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text.split(",") if is_list else text


def _fits(value: Any, kind: type) -> bool:
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    if kind is str:  # must stay in its line of the printed command, and Hydra would replace ${...}
        return isinstance(value, str) and value.isprintable() and "${" not in value
    return type(value) is kind
