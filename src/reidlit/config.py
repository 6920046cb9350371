"""Location of conf/, and access to its config groups as plain dicts without Hydra."""

from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent
# conf/ is inside the package in a wheel, and at the top level in a checkout.
CONFIG_DIR = next(path for path in (_PACKAGE / "conf", _PACKAGE.parents[1] / "conf") if path.is_dir())


def options(group: str) -> list[str]:
    """Return the sorted choices of a config group, for example of `model`."""
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))


def option(group: str, name: str) -> dict[str, Any]:
    """Return one choice of a config group as a plain dict.

    Raises:
        ValueError: If the group has no such choice or its file is invalid.
    """
    from omegaconf import DictConfig, OmegaConf  # not at module level, so that the command line starts fast

    if name not in (choices := options(group)):
        raise ValueError(f"{group}={name!r} does not exist. Choices of {group}: {', '.join(choices)}.")
    spec = OmegaConf.load(CONFIG_DIR / group / f"{name}.yaml")
    if not isinstance(spec, DictConfig):
        raise ValueError(f"conf/{group}/{name}.yaml is invalid: must contain a mapping.")
    # `part: choice` in the defaults list includes conf/<group>/<part>/<choice>.yaml. Only Hydra resolves other groups.
    entries = [entry for entry in spec.pop("defaults", ()) if entry != "_self_"]
    defaults = {str(part): str(choice) for entry in entries for part, choice in entry.items()}
    parts = {
        part: option(f"{group}/{part}", choice)
        for part, choice in defaults.items()
        if (CONFIG_DIR / group / part).is_dir() and part.isidentifier()
    }
    merged = OmegaConf.to_container(OmegaConf.merge(parts, spec), resolve=True)
    return {str(key): value for key, value in merged.items()} if isinstance(merged, dict) else {}
