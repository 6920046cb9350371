"""`reidlit train`: train and test a model, and write checkpoints, metrics and ranked lists."""

from pathlib import Path

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from reidlit.commands._data import build_datamodule, training_summary
from reidlit.commands._errors import interruptible, wrong_types_named
from reidlit.commands._evaluation import evaluate_module, publish
from reidlit.commands._modules import build_module, initialize, module_class
from reidlit.commands._resume import restoring
from reidlit.commands._settings import checkpoint_path, current_run, plain, with_settings
from reidlit.commands._trainer import build_trainer, refuse_parallel_sweep
from reidlit.console import say
from reidlit.data.datamodule import ReIDDataModule
from reidlit.engine.base import AnyModule
from reidlit.engine.loggers import finish
from reidlit.runs.result import RunResult, TestResult
from reidlit.runs.sweep import RESUME


def run(cfg: DictConfig) -> float | None:
    """Train, test, and write the results.

    Returns:
        Score that a sweep maximizes: on the validation set if there is one, otherwise on the first test set.
    """
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    datamodule = prepare_data(cfg)
    cfg = settle(cfg, datamodule)
    trainer = build_trainer(cfg)
    refuse_parallel_sweep(trainer)
    module = build_module(cfg, datamodule)
    refuse_missing_monitor(trainer, module, datamodule)
    initialize(module, cfg)
    for logger in trainer.loggers:
        logger.log_hyperparams(plain(cfg))

    untrained = (
        evaluate_module(build_trainer(cfg, bare=True), module, datamodule, "untrained") if cfg.score_untrained else ()
    )
    fit(trainer, module, datamodule, cfg.ckpt_path)
    validation = load_selected(trainer, module) or module.validation()
    tests = test(trainer, module, datamodule) if cfg.test and not cfg.trainer.fast_dev_run else ()

    result = RunResult(tests, validation, untrained)
    publish(result, trainer, module, datamodule, calibrated=current_run().last_checkpoint)
    finish(trainer.loggers)
    return result.score


@wrong_types_named()
def prepare_data(cfg: DictConfig) -> ReIDDataModule:
    """Build the dataset, check that its files exist, and set up its training images."""
    datamodule = build_datamodule(cfg)
    module_class(cfg).check_data(datamodule)
    datamodule.prepare_data()
    datamodule.setup("fit")
    say(training_summary(datamodule))
    return datamodule


@wrong_types_named()
def settle(cfg: DictConfig, datamodule: ReIDDataModule) -> DictConfig:
    """Resolve settings that depend on files or on the dataset, and save the final configuration."""
    settled = {
        "ckpt_path": checkpoint_path(cfg.ckpt_path),  # the loggers resume the run of this checkpoint
        # An epoch may be shorter than the interval, but must still be logged.
        "trainer.log_every_n_steps": min(cfg.trainer.log_every_n_steps, len(datamodule.train_dataloader())),
    }
    cfg = with_settings(cfg, settled)
    current_run().save_config(cfg)
    return cfg


def refuse_missing_monitor(trainer: pl.Trainer, module: AnyModule, datamodule: ReIDDataModule) -> None:
    """Check that the score by which checkpoints are selected is computed.

    Raises:
        ValueError: If a checkpoint callback monitors an unknown metric, or there is no validation set.
    """
    for callback in trainer.checkpoint_callbacks:
        stage, _, metric = str(getattr(callback, "monitor", None)).partition("/")
        if stage != "val":
            continue
        monitor = f"{stage}/{metric}"
        if module.validated is not None and metric not in module.validated:
            raise ValueError(
                f"monitor={monitor} of the checkpoint callback is invalid: {type(module).__name__} computes "
                f"{', '.join(f'{stage}/{name}' for name in module.validated)}."
            )
        if datamodule.val is None:
            raise ValueError(
                f"monitor={monitor} of the checkpoint callback needs a validation set, but data={datamodule.name} has "
                "none. Hold out identities with data.val_fraction=0.1, or keep only the last checkpoint with "
                "callbacks.best=null."
            )


def fit(trainer: pl.Trainer, module: AnyModule, datamodule: ReIDDataModule, ckpt_path: str | None) -> None:
    """Train from the start or resume a checkpoint; after an interruption, print how to resume."""
    if ckpt_path:
        say(f"resuming {ckpt_path}")
    remedy = "add ckpt_path=last to the same command to resume."
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        remedy = f"resume the sweep with reidlit train {RESUME}{HydraConfig.get().sweep.dir}"
    message = f"The last checkpoint is in {current_run().checkpoints}; {remedy}"
    with restoring(ckpt_path), interruptible(trainer, "train", message):
        trainer.fit(module, datamodule, ckpt_path=ckpt_path)


def load_selected(trainer: pl.Trainer, module: AnyModule) -> TestResult | None:
    """Load the checkpoint that was selected on the validation set, if the module tests the selected one.

    Returns:
        Validation scores of the checkpoint, or None if the last weights are tested.
    """
    for callback in trainer.checkpoint_callbacks:
        path = Path(getattr(callback, "best_model_path", ""))
        if getattr(callback, "monitor", None) and path.is_file():
            return module.load_selected(path)
    return None


def test(trainer: pl.Trainer, module: AnyModule, datamodule: ReIDDataModule) -> tuple[TestResult, ...]:
    """Test on every test set; return an empty tuple if there is none."""
    datamodule.setup("test")
    if not datamodule.test_sets:
        say(f"data={datamodule.name} has no test images; use data=multi to test on another dataset.")
        return ()
    return evaluate_module(trainer, module, datamodule)
