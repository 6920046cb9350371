"""Run name, configuration choices, essential settings and sweep of a run, for loggers that compare runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

Scalar = str | int | float | bool
NAMED = ("model", "data", "loss")  # configuration groups in a run name
ALWAYS = (  # settings that are logged even if they were not overridden
    "seed",
    "data.height",
    "data.width",
    "data.batch_size",
    "optimizer.lr",
    "trainer.max_epochs",
    "trainer.precision",
)
IGNORED = ("logger", "callbacks", "hydra", "ckpt_path", "test", "score_untrained")  # they do not affect what is learned


def options() -> dict[str, str]:
    """Return the selected choice of each configuration group, such as `model: osnet_x1_0`; empty without Hydra."""
    if not HydraConfig.initialized():
        return {}
    choices = {str(group): name for group, name in HydraConfig.get().runtime.choices.items()}
    return {group: str(name) for group, name in choices.items() if name and not group.startswith(IGNORED)}


def essentials(config: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the values that distinguish a run: its choices, its overrides and the settings in `ALWAYS`.

    Args:
        config: Complete, nested configuration.
    """
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    names = [str(override).partition("=")[0].lstrip("+~") for override in overrides]
    values: dict[str, Scalar] = dict(options())
    for name in [*ALWAYS, *names]:
        value = _value(config, name)
        if name.partition(".")[0] not in IGNORED and value is not None and name not in values:
            values[name] = value if isinstance(value, Scalar) else str(value)
    return values


def run_name(seed: int | None) -> str | None:
    """Return a name made of a run's choices, its seed and its number in a sweep; None without Hydra."""
    chosen = options()
    parts = [chosen[group] for group in NAMED if group in chosen]
    if not parts:
        return None
    if seed is not None:
        parts.append(f"seed{seed}")
    if sweep():
        parts.append(f"job{HydraConfig.get().job.num}")
    return "-".join(parts)


def sweep() -> str | None:
    """Return the folder name of the sweep that this run is a job of, or None."""
    if not HydraConfig.initialized() or HydraConfig.get().mode is not RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir).resolve().name


def _value(config: Mapping[str, Any], name: str) -> Any:
    """Return the value of a dotted name; None if it is missing or a group."""
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if isinstance(value, Mapping) else value
