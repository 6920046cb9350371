"""Description of Torchreid's settings, and reading them from a file and the command line."""

import ast
import math
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig

from reidlit.foreign_files import expanded
from reidlit.yaml_files import read_bounded

Outcome = tuple[str, Any] | str  # an override as (key, value), or a remark
Compose = Callable[..., DictConfig]  # composes a config by name with overrides, like Hydra; ValueError if unknown
EXPECTED = {int: "an integer", float: "a number", bool: "true or false", str: "text in one line without ${"}


@dataclass(frozen=True)
class Settings:
    """Torchreid settings of a run.

    Attributes:
        values: All values by dotted name, including Torchreid's defaults.
        explicit: Names of settings that the user set.
        changed: Names of settings that the user set to another value than Torchreid's default.
        compose: Function that composes a reidlit config, used to look up its choices.
    """

    values: Mapping[str, Any]
    explicit: frozenset[str]
    changed: frozenset[str]
    compose: Compose

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


Rule = Callable[[Settings], Iterable[Outcome]]


class Row(NamedTuple):
    """Translation of a Torchreid setting.

    Attributes:
        default: Torchreid's default, which also determines the type.
        commands: Commands of reidlit to which the setting applies.
        becomes: Key in reidlit that receives the value, overrides for each value, or a rule; None without counterpart.
        remark: Remark for values that differ from the default.
        needs: Setting without which Torchreid ignores this one, followed by its required values (default: any true
            value).
        choices: Allowed values; empty if all values are allowed.
        only_explicit: Whether to translate the setting only if the user set it, because the default of reidlit depends on
            the machine.
    """

    default: Any
    commands: tuple[str, ...]
    becomes: str | Mapping[Any, Mapping[str, Any]] | Rule | None = None
    remark: str = ""
    needs: tuple[Any, ...] = ()
    choices: tuple[str, ...] = ()
    only_explicit: bool = False


def read_settings(arguments: Sequence[str], table: Mapping[str, Row]) -> dict[str, Any]:
    """Read settings from a YAML file and from key-value pairs, which override the file.

    Args:
        arguments: Path of a YAML file followed by pairs such as `model.name`, `resnet50`; or only such pairs.
        table: Torchreid's settings by name.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is invalid, a setting is unknown, or a value does not fit its setting.
    """
    if not arguments:
        raise ValueError(
            "arguments is empty: pass a YAML file of Torchreid, for example reidlit migrate im_osnet_x1_0.yaml "
            "model.name resnet50."
        )
    files, pairs = ([], arguments) if arguments[0] in table else (arguments[:1], arguments[1:])
    if len(pairs) % 2:
        raise ValueError(
            f"{pairs[-1]} has no value: arguments after the file must be key-value pairs such as model.name resnet50."
        )
    settings = {name: value for file in files for name, value in _flat(_read_yaml(file), "", table)}
    settings |= zip(pairs[::2], pairs[1::2], strict=True)
    return {name: _checked(name, value, table) for name, value in settings.items()}


def _read_yaml(name: str) -> Mapping[Any, Any]:
    file = expanded(name)
    if not file.is_file():
        raise FileNotFoundError(f"{name} does not exist: pass a YAML file of Torchreid.")
    text = read_bounded(file)
    try:
        content = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{name} is not a valid YAML file with plain values: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{name} is invalid: must contain settings by name, like the configurations of Torchreid.")
    return content


def _flat(node: Mapping[Any, Any], prefix: str, table: Mapping[str, Row]) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if name in table or not any(setting.startswith(f"{name}.") for setting in table):
            yield name, value
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{name}.", table)
        else:
            raise ValueError(f"{name}={reprlib.repr(value)} is invalid: must contain settings by name.")


def _checked(name: str, value: Any, table: Mapping[str, Row]) -> Any:
    """Return a value converted to the type of the default; strings use Python syntax, or `a,b` for lists."""
    if name not in table:
        suggestion = "".join(f" Did you mean {other}?" for other in get_close_matches(name, table, n=1))
        raise ValueError(
            f"{name!r} is not a setting of Torchreid's scripts/main.py.{suggestion} Remove custom settings."
        )
    default, choices = table[name].default, table[name].choices
    is_list = isinstance(default, list)
    item_type = type(default[0] if is_list else default)
    if isinstance(value, str) and (is_list or item_type is not str):
        value = _parsed(value, is_list)
    items = list(value) if is_list and isinstance(value, list | tuple) else [value]
    fits_length = {float: len(items) == len(default), int: bool(items)} if is_list else {}
    if not fits_length.get(item_type, True) or not all(_fits(item, item_type) for item in items):
        expected = f"a list in which each item is {EXPECTED[item_type]}" if is_list else EXPECTED[item_type]
        raise ValueError(f"{name}={reprlib.repr(value)} is invalid: must be {expected}.")
    if choices and value not in choices:
        raise ValueError(f"{name}={value} is invalid: must be one of {', '.join(choices)}.")
    return [item_type(item) for item in items] if is_list else item_type(value)


def _parsed(text: str, is_list: bool) -> Any:
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text.split(",") if is_list else text


def _fits(value: Any, item_type: type) -> bool:
    if item_type is float:
        return type(value) in (int, float) and math.isfinite(value)
    if item_type is str:  # a printed command must stay on its line, and Hydra would interpolate ${...}
        return isinstance(value, str) and value.isprintable() and "${" not in value
    return type(value) is item_type
