"""Detection of overrides whose type differs from that of their default."""

import math
from typing import Any, Unpack, get_args, get_origin, get_type_hints

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reidlit.spec import TARGET, locate

LARGEST = 2**31  # larger integers overflow in most libraries


def suspicious_overrides() -> list[str]:
    """Return the overrides of this run whose value may be invalid: another type than the default, null, or not finite.

    If the default is null or unknown, the value is compared with the type that the configured class declares. Without
    such a declaration, any value is suspicious.
    """
    task = [str(item) for item in HydraConfig.get().overrides.task]
    parsed = OverridesParser.create().parse_overrides(task)
    values = [override for override in parsed if not _is_choice(override)]
    defaults = _defaults([override.input_line or "" for override in parsed if _is_choice(override)])
    return [override.input_line or "" for override in values if _is_suspicious(override, defaults)]


def _is_choice(override: Override) -> bool:
    """Return True for the choice of a config group, such as `model=osnet_x1_0`."""
    return override.key_or_group in HydraConfig.get().runtime.choices


def _defaults(choices: list[str]) -> DictConfig:
    """Compose the default configuration of the command with the selected groups."""
    try:
        return compose(str(HydraConfig.get().job.config_name), choices)
    except (HydraException, OmegaConfBaseException):
        return OmegaConf.create()


def _is_suspicious(override: Override, defaults: DictConfig) -> bool:
    try:
        default = OmegaConf.select(defaults, override.key_or_group, default=None)
    except OmegaConfBaseException:
        default = None
    if override.is_delete():
        return True
    value: Any = override.value()
    if default is None:
        return not _is_declared(defaults, override.key_or_group, value)
    if isinstance(value, bool) or isinstance(default, bool):
        return type(value) is not type(default)
    if isinstance(value, int | float) and isinstance(default, int | float):
        return (
            not math.isfinite(value) or abs(value) > LARGEST or (isinstance(default, int) and isinstance(value, float))
        )
    alternatives = ((int, float), (str,), (list, ListConfig), (dict, DictConfig))
    return not any(isinstance(value, types) and isinstance(default, types) for types in alternatives)


def _is_declared(defaults: DictConfig, name: str, value: Any) -> bool:
    """Return True if the configured class declares the type of `value` for this setting."""
    parent, _, argument = name.rpartition(".")
    node = OmegaConf.select(defaults, parent, throw_on_resolution_failure=False) if parent else None
    if not isinstance(node, DictConfig) or TARGET not in node:
        return False
    try:
        declared = _argument_types(locate(node[TARGET])).get(argument)
    except (ValueError, TypeError, NameError):
        return False
    return type(value) in get_args(declared) or type(value) is declared


def _argument_types(target: Any) -> dict[str, Any]:
    """Return the declared argument types of a class or function, including those of an unpacked TypedDict."""
    is_class = isinstance(target, type)
    types = get_type_hints(target.__init__ if is_class else target)
    for declared in list(types.values()):
        if get_origin(declared) is Unpack:
            types |= get_type_hints(get_args(declared)[0])
    return types
