"""Specs: plain dicts from which objects are built, `{"_target_": "package.module.Class", "argument": value}`.

Checkpoints store specs instead of pickled objects, so that they can be loaded without Hydra and without running code
from the file. Specs from files are built only if their targets are trusted, see `check_saved`. Specs from Python code
or the command line are always built.

There are two builders. `build` creates everything that checkpoints store: models, losses, optimizers and schedules.
Hydra's `instantiate` creates everything else: datasets, transforms, samplers, the Trainer, callbacks and loggers.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from reidlit._moved import current_name

TARGET = "_target_"
KEYS = (TARGET, "_instantiator")  # Lightning uses the second key for the same purpose
TRUST = "REIDLIT_TRUST"  # environment variable with a comma-separated list of packages

# Files may name any class in these packages, and two functions.
OURS = ("reidlit.models", "reidlit.losses", "reidlit.metrics", "reidlit.engine.schedules", "reidlit.engine.optim")
BUILDERS = ("reidlit.models.build.assemble", "reidlit.engine.optim.timm_optimizer")
# Files may also name modules and optimizers in these packages. Trusting the complete libraries would be unsafe, because
# they can download, compile and unpickle.
LIBRARIES = (
    *("torch.nn", "torch.optim", "timm.models", "timm.layers", "timm.loss", "timm.optim"),
    *("torchvision.models", "torchvision.ops"),
)

_trusted: set[str] = set()


def locate(target: str) -> Any:
    """Import the class or function with the given dotted name.

    Raises:
        ValueError: If the name is not a string or cannot be imported.
    """
    if not isinstance(target, str):
        raise ValueError(f"_target_={target!r} is invalid: must be a string such as package.module.Name.")
    module, _, name = current_name(target).rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"_target_={target!r} cannot be imported: {error}. Use package.module.Name.") from error


def build(spec: Mapping[str, Any], **extra: Any) -> Any:
    """Call the target of a spec with its other keys as arguments.

    Args:
        spec: Spec with the key `_target_`.
        **extra: Additional arguments, which take precedence.

    Raises:
        ValueError: If the spec has no target, or the target does not accept the arguments.
    """
    if TARGET not in spec:
        raise ValueError(
            f"The key {TARGET} is missing in a spec with the keys {sorted(spec)}: set it to a dotted name."
        )
    target = spec[TARGET]
    arguments = {key: value for key, value in spec.items() if key != TARGET} | extra
    try:
        return locate(target)(**arguments)
    except TypeError as error:
        raise ValueError(f"{target} does not accept the arguments {sorted(arguments)}: {error}") from error


def accepts(spec: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Select the offered arguments that the target of `spec` accepts and `spec` does not set."""
    parameters = signature(locate(spec[TARGET])).parameters if TARGET in spec else {}
    return {key: value for key, value in offered.items() if key in parameters and key not in spec}


def trust(*names: str) -> None:
    """Allow checkpoints to build objects from additional packages in this process.

    By default, checkpoints may only name classes of reidlit, and modules and optimizers of torch, timm and torchvision.
    The environment variable `REIDLIT_TRUST` has the same effect for a comma-separated list of packages.

    Args:
        *names: Dotted names of packages, modules, classes or functions. Trust code only from sources that you trust.

    Example:
        >>> import reidlit
        >>> reidlit.trust("my_package", "other_package.losses.MyLoss")
    """
    _trusted.update(names)


def check_saved(content: Any, source: str | Path, also: Iterable[str] = ()) -> None:
    """Check that a checkpoint or another file does not refer to untrusted code.

    The models, losses, metrics, schedules and optimizers of reidlit are trusted, and so are the modules and optimizers
    of torch, timm and torchvision. A class is judged by the module that defines it, not by a module that re-exports it.
    Other names are not even imported, unless the user trusts them, see `trust`.

    Args:
        content: Content of the file: nested dicts and lists.
        source: Name of the file, for error messages.
        also: Additional trusted packages.

    Raises:
        ValueError: If the content names an untrusted target.
    """
    packages = (*OURS, *also)
    for target in targets(content):
        if not _is_trusted(target, packages):
            package = str(target).partition(".")[0]
            raise ValueError(
                f"{source} asks to build {target!r}, which is not a trusted class and could run arbitrary code. If you "
                f"trust the file, set {TRUST}={package} in the environment or call reidlit.trust({package!r}). You can "
                "also pass its training options, such as --config-dir and model=, on the command line."
            )


def targets(content: Any) -> Iterator[Any]:
    """Yield the targets of all specs in nested dicts and lists."""
    seen, stack = set(), [content]
    while stack:  # not recursive, because a hostile file may be nested too deeply or contain itself
        item = stack.pop()
        if id(item) in seen:
            continue
        if isinstance(item, Mapping):
            seen.add(id(item))
            yield from (item[key] for key in KEYS if key in item)
            stack.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            seen.add(id(item))
            stack.extend(item)


def _is_trusted(target: Any, packages: Iterable[str]) -> bool:
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return False
    target = current_name(target)
    from_environment = os.environ.get(TRUST, "").split(",")
    if target in BUILDERS or _is_below(target, {name.strip() for name in from_environment if name.strip()} | _trusted):
        return True
    if not _is_below(target, (*packages, *LIBRARIES)):  # checked before the import, because an import runs code
        return False
    cls = locate(target)
    if not isinstance(cls, type):
        return False
    # Check the defining module, because modules also expose their imports, such as pathlib.Path.
    home = cls.__module__
    return _is_below(home, packages) or (_is_below(home, LIBRARIES) and issubclass(cls, nn.Module | Optimizer))


def _is_below(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
