"""Construction of the Trainer that a configuration describes."""

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
from reidlit.engine.callbacks.log_before_checkpoint import LogBeforeCheckpoint
from reidlit.engine.malloc import keep_freed_memory

# Prefixes of Lightning warnings that do not apply to reidlit.
SILENCED = (
    "Total length of `list` across ranks is zero",  # no validation set
    "It is recommended to use `self.log",  # the scores are already equal on all ranks
    "`isinstance.treespec, LeafSpec.`",  # raised inside Lightning
    ".*does not have many workers",  # data.num_workers is a deliberate choice
)


@wrong_types_named()
def build_trainer(cfg: DictConfig, bare: bool = False) -> pl.Trainer:
    """Build the Trainer, which writes into the run folder.

    Args:
        cfg: Configuration of a command.
        bare: Whether to omit the loggers and all callbacks except the progress bar.
    """
    _silence_hints()
    specs = {"progress": cfg.callbacks.progress} if bare else cfg.callbacks
    callbacks = [instantiate(callback) for callback in specs.values() if callback]
    loggers = [] if bare else [instantiate(logger) for logger in cfg.get("logger", {}).values() if logger]
    trainer: pl.Trainer = instantiate(
        cfg.trainer,
        default_root_dir=str(current_run().path),
        callbacks=[*callbacks, LogBeforeCheckpoint()],
        logger=loggers or False,
        plugins=[AtomicCheckpointIO()],
        # Otherwise Lightning adds its own callbacks if those of the configuration are disabled.
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
    )
    if isinstance(trainer.accelerator, CPUAccelerator):
        keep_freed_memory()
    return trainer


def refuse_parallel_sweep(trainer: pl.Trainer) -> None:
    """Refuse a sweep in which Lightning starts the ranks, because each rank would use the settings of another job.

    Raises:
        ValueError: If Lightning starts several ranks within a sweep.
    """
    if HydraConfig.get().mode is not RunMode.MULTIRUN or trainer.world_size == 1:
        return
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None or not environment.creates_processes_externally:
        raise ValueError(
            f"trainer.devices={trainer.num_devices} cannot be used in a sweep, because each rank would use the "
            "settings of another job. Set trainer.devices=1, run without --multirun, or let a scheduler such as Slurm "
            "start the ranks."
        )


def _silence_hints() -> None:
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    for text in SILENCED:
        warnings.filterwarnings("ignore", message=text)
