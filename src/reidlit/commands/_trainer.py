"""The Trainer that a configuration describes."""

import logging
import warnings

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar

from reidlit.commands._errors import wrong_types_named
from reidlit.commands._settings import current_run
from reidlit.engine.callbacks.checkpoint import AtomicCheckpointIO
from reidlit.engine.malloc import keep_freed_memory

# Beginnings of Lightning's warnings that address people who configure it by hand.
SILENCED = (
    "Total length of `list` across ranks is zero",  # no held-out identities, so no validation
    "It is recommended to use `self.log",  # the scores are equal on all ranks already
    "`isinstance.treespec, LeafSpec.`",  # inside Lightning
    ".*does not have many workers",  # data.num_workers is chosen for the machine
)


@wrong_types_named()
def build_trainer(cfg: DictConfig, bare: bool = False) -> pl.Trainer:
    """Build the Trainer, which writes into the folder of the run.

    Args:
        cfg: Configuration of a command.
        bare: Whether to leave out the loggers and all callbacks but the progress bar.
    """
    _silence_hints()
    specs = {"progress": cfg.callbacks.progress} if bare else cfg.callbacks
    callbacks = [instantiate(callback) for callback in specs.values() if callback]
    loggers = [] if bare else [instantiate(logger) for logger in cfg.get("logger", {}).values() if logger]
    trainer: pl.Trainer = instantiate(
        cfg.trainer,
        default_root_dir=str(current_run().path),
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
        ValueError: If this is such a sweep.
    """
    if HydraConfig.get().mode is not RunMode.MULTIRUN or trainer.world_size == 1:
        return
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None or not environment.creates_processes_externally:
        raise ValueError(
            f"trainer.devices={trainer.num_devices} in a sweep: each rank would train on other values. Set "
            "trainer.devices=1, leave --multirun, or let a scheduler such as Slurm start the ranks."
        )


def _silence_hints() -> None:
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    for text in SILENCED:
        warnings.filterwarnings("ignore", message=text)
