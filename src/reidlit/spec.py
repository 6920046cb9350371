"""Build an object from the plain dict that names it: `{"_target_": "package.module.Class", "argument": value}`.

A checkpoint holds such dicts instead of pickled objects, so it can be read without Hydra and without running its code. What
a checkpoint names is built only if it is harmless, see `check_saved`; what a user's own program or command line names, always.

There are two builders. `build` makes what a checkpoint stores: models, losses, optimizers, schedules. Loading one must
neither need Hydra nor run code that the file chooses, so these specs stay plain dicts until `build` calls a checked target.
Hydra's `instantiate` makes what only a command line names and no checkpoint stores: datasets, transforms, samplers, the
Trainer, callbacks and loggers.
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
KEYS = (TARGET, "_instantiator")  # the second is Lightning's, for the same
TRUST = "REIDLIT_TRUST"  # environment variable: packages, separated by commas

# Of these any class may be built, and two functions.
OURS = ("reidlit.models", "reidlit.losses", "reidlit.metrics", "reidlit.engine.schedules", "reidlit.engine.optim")
BUILDERS = ("reidlit.models.build.assemble", "reidlit.engine.optim.timm_optimizer")
# Of these, networks, losses and optimisers. The libraries as a whole would be too much: they can fetch, compile, unpickle.
LIBRARIES = (
    *("torch.nn", "torch.optim", "timm.models", "timm.layers", "timm.loss", "timm.optim"),
    *("torchvision.models", "torchvision.ops"),
)

_trusted: set[str] = set()


def locate(target: str) -> Any:
    """Import what a dotted path names.

    Raises:
        ValueError: if nothing of that name exists.
    """
    if not isinstance(target, str):
        raise ValueError(f"_target_={target!r} must be a text, package.module.Name.")
    module, _, name = current_name(target).rpartition(".")
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


def trust(*names: str) -> None:
    """Let checkpoints build these too, in this process: packages, modules, or single classes and functions.

    The environment variable `REIDLIT_TRUST` does so for packages, separated by commas.
    """
    _trusted.update(names)


def check_saved(content: Any, source: str | Path, also: Iterable[str] = ()) -> None:
    """Refuse a checkpoint, or other settings from a file, that would have something built that might do harm.

    Harmless are the classes that reidlit's models, losses, metrics, schedules and optimisers are made of, and the networks,
    losses and optimisers of torch, timm and torchvision; where a class is defined counts, not where it can be reached.
    Nothing else is even imported, unless it is trusted.

    Args:
        content: what was read, at any depth of dicts and lists.
        source: what to call it in errors.
        also: packages whose classes are harmless too, in such a file.

    Raises:
        ValueError: if it names something else; nothing was built.
    """
    ours = (*OURS, *also)
    for target in targets(content):
        if not _is_harmless(target, ours):
            package = str(target).partition(".")[0]
            raise ValueError(
                f"{source} asks to build {target!r}, which is no part of reidlit and no network, loss or optimiser of torch, "
                "timm or torchvision, so it was refused: whoever made the file could run any code in this way. If it is your "
                f"own or you trust them, set {TRUST}={package} in the environment, call reidlit.trust({package!r}), or give "
                "the options that it was trained with, such as --config-dir and model=, on the command line."
            )


def targets(content: Any) -> Iterator[Any]:
    """All that specs below a value name, at any depth."""
    seen, rest = set(), [content]
    while rest:  # a loop: a hostile file may be nested deeper than calls can be, or hold itself
        item = rest.pop()
        if id(item) in seen:
            continue
        if isinstance(item, Mapping):
            seen.add(id(item))
            yield from (item[key] for key in KEYS if key in item)
            rest.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            seen.add(id(item))
            rest.extend(item)


def _is_harmless(target: Any, ours: Iterable[str]) -> bool:
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return False
    target = current_name(target)
    named = os.environ.get(TRUST, "").split(",")
    if target in BUILDERS or _is_below(target, {name.strip() for name in named if name.strip()} | _trusted):
        return True
    if not _is_below(target, (*ours, *LIBRARIES)):  # before the import, which runs code as well
        return False
    found = locate(target)
    if not isinstance(found, type):
        return False
    # Modules show what they have imported too, pathlib's Path for one.
    home = found.__module__
    return _is_below(home, ours) or (_is_below(home, LIBRARIES) and issubclass(found, nn.Module | Optimizer))


def _is_below(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
