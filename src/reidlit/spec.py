"""Build an object from the plain dict that names it: `{"_target_": "package.module.Class", "argument": value}`.

A checkpoint holds such dicts instead of pickled objects, so it can be read without Hydra and without running its code.
"""

from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from typing import Any

TARGET = "_target_"


def locate(target: str) -> Any:
    """Import what a dotted path names.

    Raises:
        ValueError: if nothing of that name exists.
    """
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"_target_={target!r} cannot be imported: {error}. It must be package.module.Name.") from error


def build(spec: Mapping[str, Any], **extra: Any) -> Any:
    """Call the target of `spec` with its other keys and `extra`, which only the caller knows.

    Raises:
        ValueError: if `spec` names no target or the target does not take these arguments.
    """
    if TARGET not in spec:
        raise ValueError(f"A spec needs a {TARGET} key that names what to build; got the keys {sorted(spec)}.")
    target = spec[TARGET]
    arguments = {key: value for key, value in spec.items() if key != TARGET} | extra
    try:
        return locate(target)(**arguments)
    except TypeError as error:
        raise ValueError(f"{target} does not take the arguments {sorted(arguments)}: {error}") from error


def accepts(spec: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the offered arguments that the target of `spec` has, and that `spec` does not give itself."""
    known = signature(locate(spec[TARGET])).parameters if TARGET in spec else {}
    return {key: value for key, value in offered.items() if key in known and key not in spec}
