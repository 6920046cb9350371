"""What tells a run from others: its options, the settings that differ, its name and its sweep."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

Scalar = str | int | float | bool
NAMED = ("model", "data", "loss")  # options in a run's name
# Shown of every run, whether they were given or not.
ALWAYS = (
    *("seed", "data.height", "data.width", "data.batch_size", "optimizer.lr"),
    *("trainer.max_epochs", "trainer.precision"),
)
ASIDE = ("logger", "callbacks", "hydra", "ckpt_path", "test", "score_untrained")  # change nothing of what is learnt


def options() -> dict[str, str]:
    """The chosen option of each group of the configuration, such as `model: osnet_x1_0`; empty without Hydra."""
    if not HydraConfig.initialized():
        return {}
    choices = HydraConfig.get().runtime.choices
    return {
        str(group): str(name)
        for group, name in choices.items()
        if name and not str(group).startswith(("hydra", *ASIDE))
    }


def essentials(config: Mapping[str, Any]) -> dict[str, Scalar]:
    """Few values that tell a run from others: its options, what was set on the command line, and a few that always count.

    Args:
        config: the whole configuration, nested.
    """
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    names = [str(item).partition("=")[0].lstrip("+~") for item in given]
    found: dict[str, Scalar] = dict(options())
    for name in (*ALWAYS, *names):
        value = _value(config, name)
        if name.partition(".")[0] not in ASIDE and value is not None and name not in found:
            found[name] = value if isinstance(value, Scalar) else str(value)
    return found


def run_name(seed: int | None) -> str | None:
    """A run's name of its options, its seed and its number in a sweep; None without Hydra."""
    chosen = options()
    parts = [chosen[group] for group in NAMED if group in chosen]
    if not parts:
        return None
    number = [f"job{HydraConfig.get().job.num}"] if sweep() else []
    return "-".join([*parts, *([] if seed is None else [f"seed{seed}"]), *number])


def sweep() -> str | None:
    """The name of the folder of the sweep that this run is a job of."""
    if not HydraConfig.initialized() or HydraConfig.get().mode is not RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir).resolve().name


def _value(config: Mapping[str, Any], name: str) -> Any:
    """What a dotted name stands for; None for a whole group, or if there is nothing."""
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if isinstance(value, Mapping) else value
