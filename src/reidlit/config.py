"""Where conf/ lies, and its options as plain dicts without a Hydra application."""

from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
# In a wheel conf/ lies in the package; in a checkout, at the top level.
CONFIG_DIR = next(path for path in (_HERE / "conf", _HERE.parents[1] / "conf") if path.is_dir())


def options(group: str) -> list[str]:
    """The names of a config group, sorted, e.g. those of `model`."""
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))


def option(group: str, name: str) -> dict[str, Any]:
    """One option of a group as a plain dict.

    Raises:
        ValueError: if the group has no such option.
    """
    from omegaconf import DictConfig, OmegaConf  # here, so that the command line starts without it

    if name not in (known := options(group)):
        raise ValueError(f"{group}={name!r} does not exist. Options of {group}: {', '.join(known)}.")
    spec = OmegaConf.load(CONFIG_DIR / group / f"{name}.yaml")
    if not isinstance(spec, DictConfig):
        raise ValueError(f"conf/{group}/{name}.yaml must hold a mapping.")
    # `part: name` in the defaults stands for conf/<group>/<part>/<name>.yaml; what reaches into other groups is Hydra's.
    entries = [entry for entry in spec.pop("defaults", ()) if entry != "_self_"]
    chosen = {str(part): str(choice) for entry in entries for part, choice in entry.items()}
    parts = {
        part: option(f"{group}/{part}", choice)
        for part, choice in chosen.items()
        if (CONFIG_DIR / group / part).is_dir() and part.isidentifier()
    }
    merged = OmegaConf.to_container(OmegaConf.merge(parts, spec), resolve=True)
    return {str(key): value for key, value in merged.items()} if isinstance(merged, dict) else {}
