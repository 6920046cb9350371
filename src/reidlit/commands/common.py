"""Steps that several commands share."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from reidlit.commands._attribute_results import print_attributes
from reidlit.commands._environment import environment
from reidlit.commands._errors import interruptible
from reidlit.commands._results import describe, figures, print_table, write_per_query
from reidlit.data.datamodule import ReIDDataModule, count
from reidlit.data.sample import Sample
from reidlit.engine.callbacks.checkpoint import AtomicCheckpointIO
from reidlit.engine.malloc import keep_freed_memory
from reidlit.engine.reid import ReIDModule
from reidlit.files import write_json
from reidlit.inference.calibration import Calibration, store
from reidlit.spec import targets, trust


def trust_named(cfg: DictConfig) -> None:
    """Let checkpoints build what the command line names: that is the user's own choice, and a file's is not."""
    for group in ("model", "loss", "optimizer", "scheduler", "engine"):
        named = targets(OmegaConf.to_container(cfg[group], resolve=False)) if cfg.get(group) else ()
        trust(*(target for target in named if isinstance(target, str)))


def sizes(datamodule: ReIDDataModule) -> str:
    """What is trained on, a line for each source; and what users of these data must be told."""
    unit = datamodule.unit
    parts = [(part.name, part.training_samples()) for part in datamodule.sources]
    lines = [f"{name}: trained on {_size(samples, unit)}" for name, samples in parts]
    if len(parts) > 1:
        lines.append(f"together: {_size(datamodule.train, unit)}")
    if datamodule.val:
        lines.append(
            f"held out for validation: {len(datamodule.val.query)} queries, {len(datamodule.val.gallery)} gallery"
        )
    kept = [f"{part.name}: the split is kept in {part.split_path}" for part in datamodule.parts if part.split_path]
    return "\n".join([*lines, *kept, *(part.notice for part in datamodule.sources if part.notice)])


def _size(samples: Sequence[Sample], unit: str) -> str:
    identities, images, cameras = count(samples)
    return f"{identities:,} identities, {images:,} {unit}, {cameras or 'no known'} cameras"


def build_trainer(cfg: DictConfig, bare: bool = False) -> pl.Trainer:
    """The Trainer, writing into the run's folder; a bare one has no loggers and only the progress bar."""
    _quiet()
    chosen = {"progress": cfg.callbacks.progress} if bare else cfg.callbacks
    callbacks = [instantiate(callback) for callback in chosen.values() if callback]
    loggers = [] if bare else [instantiate(logger) for logger in cfg.get("logger", {}).values() if logger]
    trainer: pl.Trainer = instantiate(
        cfg.trainer,
        default_root_dir=str(run_dir()),
        callbacks=callbacks,
        logger=loggers or False,
        plugins=[AtomicCheckpointIO()],
        # Lightning would add its own where ours are switched off.
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
    )
    if isinstance(trainer.accelerator, CPUAccelerator):
        keep_freed_memory()
    return trainer


def refuse_parallel_sweep(trainer: pl.Trainer) -> None:
    """Refuse a sweep in which Lightning starts the ranks: they would run other jobs' values than rank 0.

    Raises:
        ValueError: if this is such a sweep.
    """
    if HydraConfig.get().mode is not RunMode.MULTIRUN or trainer.world_size == 1:
        return
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None or not environment.creates_processes_externally:
        raise ValueError(
            f"trainer.devices={trainer.num_devices} in a sweep: each rank would train on other values. Set "
            "trainer.devices=1, leave --multirun, or let a scheduler such as Slurm start the ranks."
        )


def _quiet() -> None:
    """Leave out what Lightning says to people who configure it by hand."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    for text in (
        "Total length of `list` across ranks is zero",  # no held-out identities, so no validation
        "It is recommended to use `self.log",  # the scores are equal on all ranks already
        "`isinstance.treespec, LeafSpec.`",  # inside Lightning
        ".*does not have many workers",  # data.num_workers is chosen for the machine
    ):
        warnings.filterwarnings("ignore", message=text)


def evaluation(cfg: DictConfig) -> dict[str, Any]:
    """The options of the evaluation, with a spec for each name in `eval.postprocess`.

    Raises:
        ValueError: if a name stands for no step.
    """
    options = plain(cfg.eval)
    steps = options.pop("steps")
    if unknown := [name for name in options["postprocess"] if name not in steps]:
        raise ValueError(
            f"eval.postprocess={options['postprocess']}: no step is called {unknown}; known are {sorted(steps)}."
        )
    return {**options, "postprocess": [steps[name] for name in options["postprocess"]]}


def test(trainer: pl.Trainer, module: ReIDModule, datamodule: ReIDDataModule) -> dict[str, Any]:
    """Score the model on every test set: `test/<dataset>/<name>` -> fraction, count, or more."""
    module.scores.clear()
    with interruptible(trainer, "test", "Nothing was written; run the same command again."):
        trainer.test(module, datamodule, verbose=False)
    evaluated, size = module.hparams["evaluation"] or {}, module.hparams["image_size"]
    protocol = describe(evaluated, size, module.model.uses_cameras, datamodule.unit)
    return {
        f"{name}/{key}": value
        for name, scores in module.scores.items()
        for key, value in figures(scores, protocol).items()
    }


def publish(metrics: Mapping[str, Any], trainer: pl.Trainer, module: ReIDModule, datamodule: ReIDDataModule) -> None:
    """Write `metrics.json`, `environment.json` and the results of each query, print the table of results and say where the files are."""
    tested = {name: module.scores[f"test/{name}"] for name in datamodule.test_sets if f"test/{name}" in module.scores}
    if tested:
        write_per_query(run_dir() / "per_query.parquet", tested, datamodule.test_sets, module.metrics)
    write_json(run_dir() / "metrics.json", metrics)
    write_json(run_dir() / "environment.json", environment(trainer))
    print_table(metrics)
    print_attributes(metrics)
    for name, path in outputs():
        say(f"{name}: {path}")


def calibrate(metrics: Mapping[str, Any], module: ReIDModule, checkpoint: Path | None) -> None:
    """Keep the thresholds that a test has measured: in `calibration.json`, and in the checkpoint."""
    calibration = Calibration.of_test(metrics, module.hparams["evaluation"] or {})
    if calibration is None:
        return
    write_json(run_dir() / "calibration.json", calibration.as_dict())
    if checkpoint is not None and checkpoint.is_file():
        store(checkpoint, calibration)


def outputs() -> list[tuple[str, Path]]:
    """What the run left, for people."""
    found = [("metrics", run_dir() / "metrics.json"), ("each query", run_dir() / "per_query.parquet")]
    found += [("checkpoint", run_dir() / "checkpoints" / "last.ckpt")]
    found += [("ranked lists", path) for path in sorted((run_dir() / "ranked_lists").glob("*.png"))]
    return [(name, path) for name, path in found if path.is_file()]


def is_given(*names: str) -> bool:
    """Whether the command line sets one of these."""
    return any(item.lstrip("+").startswith(f"{name}=") for item in HydraConfig.get().overrides.task for name in names)


def run_dir() -> Path:
    """Where this run's files go."""
    return Path(HydraConfig.get().runtime.output_dir)


def plain(node: DictConfig) -> dict[str, Any]:
    """A resolved copy without OmegaConf's types, as checkpoints hold it."""
    container = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    if not isinstance(container, dict):
        raise TypeError(f"a mapping is needed, got {container!r}")
    return {str(key): value for key, value in container.items()}


def checkpoint_path(value: str | None, command: str = "train") -> str | None:
    """The file that `ckpt_path` names; `last` is the newest `last.ckpt` of this folder or of the runs beside it.

    Raises:
        FileNotFoundError: if there is none.
    """
    if value is None:
        return None
    if value != "last":
        if not Path(value).expanduser().is_file():
            raise FileNotFoundError(f"ckpt_path={value} does not exist: give a .ckpt file, or `last`.")
        return str(Path(value).expanduser())
    own = run_dir() / "checkpoints" / "last.ckpt"
    if own.is_file():
        return str(own)
    runs = run_dir().parent.parent / command
    found = sorted(runs.glob("*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(
            f"ckpt_path=last: there is no {own} and no checkpoint in {runs}. Train first, or give the path of a .ckpt file."
        )
    return str(found[-1])


def say(text: str) -> None:
    """Print a line, on the main process only."""
    rank_zero_only(Console().print)(text, highlight=False, soft_wrap=True, markup=False)
