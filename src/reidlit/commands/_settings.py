"""Access to the configuration of a command and to the folder of its run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from reidlit.runs.run_folder import RunFolder, newest_checkpoint
from reidlit.spec import targets, trust

TRUSTED_GROUPS = ("model", "loss", "optimizer", "scheduler", "engine")


def current_run() -> RunFolder:
    """Return the folder of this run."""
    return RunFolder(Path(HydraConfig.get().runtime.output_dir))


def is_given(*names: str) -> bool:
    """Return True if the command line sets one of these settings."""
    return any(item.lstrip("+").startswith(f"{name}=") for item in HydraConfig.get().overrides.task for name in names)


def chosen(group: str) -> str:
    """Return the choice of a config group, such as `market1501` for `data`."""
    return str(HydraConfig.get().runtime.choices[group])


def plain(node: DictConfig) -> dict[str, Any]:
    """Return a resolved copy without OmegaConf's types, as checkpoints store it."""
    container = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    if not isinstance(container, dict):
        raise TypeError(f"a mapping is needed, got {container!r}")
    return {str(key): value for key, value in container.items()}


def with_settings(cfg: DictConfig, settings: Mapping[str, Any]) -> DictConfig:
    """Return a copy of a configuration with other values.

    Args:
        cfg: Configuration of a command; it is not changed.
        settings: Values by dotted name.
    """
    copy = cfg.copy()
    for name, value in settings.items():
        OmegaConf.update(copy, name, value)
    return copy


def trust_chosen(cfg: DictConfig) -> None:
    """Allow checkpoints to build what the command line names: that is the user's own choice, unlike the content of a file."""
    for group in TRUSTED_GROUPS:
        if cfg.get(group):
            names = targets(OmegaConf.to_container(cfg[group], resolve=False))
            trust(*(name for name in names if isinstance(name, str)))


def evaluation(cfg: DictConfig) -> dict[str, Any]:
    """Return the options of the evaluation, with a spec for each name in `eval.postprocess`.

    Raises:
        ValueError: If a name is not a step.
    """
    options = plain(cfg.eval)
    steps = options.pop("steps")
    if unknown := [name for name in options["postprocess"] if name not in steps]:
        raise ValueError(
            f"eval.postprocess={options['postprocess']}: no step is called {unknown}; known are {sorted(steps)}."
        )
    return {**options, "postprocess": [steps[name] for name in options["postprocess"]]}


def checkpoint_path(value: str | None, command: str = "train") -> str | None:
    """Return the file that `ckpt_path` names; `last` is the newest `last.ckpt` of this folder or of the runs next to it.

    Raises:
        FileNotFoundError: If there is none.
    """
    if value is None:
        return None
    if value != "last":
        if not Path(value).expanduser().is_file():
            raise FileNotFoundError(f"ckpt_path={value} does not exist: give a .ckpt file, or `last`.")
        return str(Path(value).expanduser())
    folder = current_run()
    if folder.last_checkpoint.is_file():
        return str(folder.last_checkpoint)
    runs = folder.path.parent.parent / command
    newest = newest_checkpoint(runs)
    if newest is None:
        raise FileNotFoundError(
            f"ckpt_path=last: there is no {folder.last_checkpoint} and no checkpoint in {runs}. Train first, or give the path of a "
            ".ckpt file."
        )
    return str(newest)
