"""Comparison of a training run with the checkpoint that it resumes."""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reidlit.commands._settings import plain
from reidlit.console import say
from reidlit.engine.base import AnyModule, without_pretraining
from reidlit.foreign_files import reading
from reidlit.models.weights import read_settings

CONNECTOR = "pytorch_lightning.trainer.connectors.checkpoint_connector"
# Settings that a checkpoint records besides the hyperparameters of its module.
RECORDED = (
    *("seed", "data", "sampler", "transforms.train", "engine._target_"),
    *("callbacks.freeze", "callbacks.resolution", "callbacks.ema", "callbacks.swa"),
    *("trainer.accumulate_grad_batches", "trainer.precision", "trainer.gradient_clip_val", "trainer.max_epochs"),
)
# Hyperparameters of a module that share their name with a group of settings.
COMPARED = ("loss", "optimizer", "scheduler")
# Settings with no effect on the weights: where the data are and how they are read.
FREE = (
    *("data.root", "data.file", "data.split_file", "data.name", "data.pack", "data.pack_dir"),
    *("data.num_workers", "data.test_batch_size", "data.load_train_targets", "data.targets"),
    *("optimizer.fused", "optimizer.foreach"),
)
# Settings that may change between two epochs. The user is told.
REPORTED = ("trainer.max_epochs", "scheduler.max_epochs", "trainer.precision", "trainer.gradient_clip_val")


def recorded_settings(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings that a checkpoint records, so that a resumed run can be compared with it."""
    settings: dict[str, Any] = {}
    for name in RECORDED:
        value = OmegaConf.select(cfg, name)
        settings[name] = plain(value) if isinstance(value, DictConfig) else _as_plain(value)
    return {name: value for name, value in flatten(settings) if name not in FREE}


def check_resumed(path: str, module: AnyModule) -> None:
    """Compare a module that is about to be resumed with its checkpoint.

    Settings that may change are reported in one line.

    Args:
        path: Checkpoint to resume from.
        module: Module with its `run_settings`.

    Raises:
        ValueError: If a setting differs that must not change, or the run is already complete.
    """
    with reading(f"ckpt_path={path}", "Use a checkpoint that reidlit train has written."):
        _compare(path, module)


@contextmanager
def restoring(path: str | None) -> Iterator[None]:
    """Name the checkpoint if Lightning cannot restore the state of a run from it.

    Raises:
        ValueError: If an error occurs while the checkpoint `path` is restored; other errors are raised unchanged.
    """
    try:
        yield
    except Exception as error:
        modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        if path is None or CONNECTOR not in modules:
            raise
        with reading(
            f"ckpt_path={path}", "Resume from an intact checkpoint, or start from its weights with weights=<file>."
        ):
            raise


def _compare(path: str, module: AnyModule) -> None:
    content = read_settings(path)
    saved = content.get("hyper_parameters", {})
    for name, difference, settings in module.resumed_with:
        if saved.get(name) != _comparable(name, module.hparams[name]):
            raise ValueError(
                f"ckpt_path={path} was trained with {difference} and cannot be resumed here. Restore the {settings} of that "
                "run, or start a new run from its weights with weights=<the same file>."
            )
    before = {**dict(flatten({name: saved.get(name) for name in COMPARED})), **content.get("run_settings", {})}
    now = {**dict(flatten({name: module.hparams.get(name) for name in COMPARED})), **module.run_settings}
    if "run_settings" not in content:  # written by reidlit 0.1
        now = {name: value for name, value in now.items() if name.partition(".")[0] in COMPARED}
    changes = {
        name: f"{name}: {before.get(name)} -> {now.get(name)}"
        for name in sorted({*before, *now})
        if name not in FREE and before.get(name) != now.get(name)
    }
    if fixed := [change for name, change in changes.items() if name not in REPORTED]:
        raise ValueError(
            f"ckpt_path={path} cannot be resumed with other settings ({'; '.join(fixed)}). Restore them, or start a new run "
            "from its weights with weights=<the same file>."
        )
    if reported := [change for name, change in changes.items() if name != "scheduler.max_epochs"]:
        say(f"resuming with other settings: {'; '.join(reported)}")
    _check_not_complete(path, content, module.run_settings.get("trainer.max_epochs"))


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings by dotted name."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check_not_complete(path: str, content: Mapping[str, Any], max_epochs: Any) -> None:
    """Refuse a checkpoint with more epochs than this run has."""
    loops = content.get("loops") or {}
    processed = loops.get("fit_loop", {}).get("epoch_progress", {}).get("current", {}).get("processed")
    if isinstance(processed, int) and isinstance(max_epochs, int) and 0 <= max_epochs < processed:
        raise ValueError(
            f"trainer.max_epochs={max_epochs} is invalid: ckpt_path={path} has completed {processed} epochs already. Raise "
            "trainer.max_epochs."
        )


def _as_plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _comparable(name: str, value: Any) -> Any:
    """Return a hyperparameter as a checkpoint stores it."""
    if name == "model":
        return without_pretraining(value)
    return [without_pretraining(peer) for peer in value] if name == "peers" else value
