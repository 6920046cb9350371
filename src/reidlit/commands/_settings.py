"""Access to the configuration of a command and to its run folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from reidlit.foreign_files import expanded
from reidlit.runs.run_folder import RunFolder, newest_checkpoint
from reidlit.spec import targets, trust

TRUSTED_GROUPS = ("model", "loss", "optimizer", "scheduler", "engine")


def current_run() -> RunFolder:
    """Return the run folder of this command."""
    return RunFolder(Path(HydraConfig.get().runtime.output_dir))


def is_given(*names: str) -> bool:
    """Return True if the command line sets one of these settings."""
    return any(item.lstrip("+").startswith(f"{name}=") for item in HydraConfig.get().overrides.task for name in names)


def chosen(group: str) -> str:
    """Return the choice of a config group, such as `market1501` for `data`."""
    return str(HydraConfig.get().runtime.choices[group])


def plain(node: DictConfig) -> dict[str, Any]:
    """Return a resolved copy as a plain dict, which checkpoints can store."""
    container = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    if not isinstance(container, dict):
        raise TypeError(f"node must be a mapping, got {container!r}")
    return {str(key): value for key, value in container.items()}


def with_settings(cfg: DictConfig, settings: Mapping[str, Any]) -> DictConfig:
    """Return a copy of a configuration with changed values.

    Args:
        cfg: Configuration of a command; it is not changed.
        settings: Values by dotted name.
    """
    copy = cfg.copy()
    for name, value in settings.items():
        OmegaConf.update(copy, name, value)
    return copy


def trust_chosen(cfg: DictConfig) -> None:
    """Allow checkpoints to build the classes that the command line names, because the user chose them."""
    for group in TRUSTED_GROUPS:
        if cfg.get(group):
            names = targets(OmegaConf.to_container(cfg[group], resolve=False))
            trust(*(name for name in names if isinstance(name, str)))


def evaluation(cfg: DictConfig) -> dict[str, Any]:
    """Return the evaluation options, with a spec for each name in `eval.postprocess`.

    Raises:
        ValueError: If a name is not a configured step.
    """
    options = plain(cfg.eval)
    steps = options.pop("steps")
    if unknown := [name for name in options["postprocess"] if name not in steps]:
        raise ValueError(
            f"eval.postprocess={options['postprocess']} is invalid: {unknown} must be among {sorted(steps)}."
        )
    return {**options, "postprocess": [steps[name] for name in options["postprocess"]]}


def checkpoint_path(value: str | None, command: str = "train") -> str | None:
    """Resolve `ckpt_path`.

    Args:
        value: Path of a checkpoint, or `last`: the last checkpoint of this run folder, otherwise the newest one of the
            runs of `command`.
        command: Command whose runs are searched for `last`.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
    """
    if value is None:
        return None
    if value != "last":
        if not expanded(value).is_file():
            raise FileNotFoundError(f"ckpt_path={value} does not exist: give a .ckpt file, or `last`.")
        return str(expanded(value))
    folder = current_run()
    if folder.last_checkpoint.is_file():
        return str(folder.last_checkpoint)
    in_place = folder.path.resolve() == Path.cwd()  # a command without a run folder, such as verify
    runs = (Path("runs") if in_place else folder.path.parent.parent) / command
    newest = newest_checkpoint(runs)
    if newest is None:
        raise FileNotFoundError(
            f"ckpt_path=last does not exist: there is no checkpoint in {folder.checkpoints} or {runs}. Train a model "
            "first, or give the path of a .ckpt file."
        )
    return str(newest)
