"""Checkpoints: atomic writing, confined paths, resuming at the end of an epoch, and saving on SIGTERM."""

import io
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.exceptions import SIGTERMException

from reidlit.files import atomic_path
from reidlit.locks import locked

SUFFIX = ".ckpt"
# Keys under which callbacks such as ModelCheckpoint store paths.
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
SCORED_PATHS = "best_k_models"  # a mapping of paths to scores


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint plugin that completes and flushes a file before it replaces the previous one.

    A checkpoint contains the paths of other checkpoints, which Lightning loads and deletes. Such a path is kept only if it
    names a file next to the checkpoint, and only checkpoint files in folders that this plugin has written to are deleted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folders: set[Path] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`.

        Raises:
            OSError: If the file cannot be written; the message says which checkpoints remain.
        """
        target = Path(path)
        self._folders.add(target.parent.resolve())
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with locked(target), atomic_path(target, shared=False) as part, part.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(
                error.errno,
                f"Checkpoint {target} ({buffer.getbuffer().nbytes / 1e6:.1f} MB) cannot be written: {error.strerror}. "
                "Earlier checkpoints are intact. Free space or choose another hydra.run.dir, and resume with "
                "ckpt_path=last",
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint to resume from."""
        checkpoint: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only)
        _check_counts(checkpoint.get("loops", {}))
        if "fit_loop" in checkpoint.get("loops", {}):
            _end_epoch(checkpoint["loops"]["fit_loop"])
        for state in checkpoint.get("callbacks", {}).values():
            if isinstance(state, dict):
                _confine(state, Path(path).parent)
        return checkpoint

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete a checkpoint file in a folder that this plugin has written to; ignore any other path."""
        file = Path(path)
        if (
            file.suffix == SUFFIX
            and file.is_file()
            and not file.is_symlink()
            and file.parent.resolve() in self._folders
        ):
            file.unlink()


def _check_counts(state: Any) -> None:
    """Check that the state of loops consists of numbers; other values would end the training later, without the file's name.

    Raises:
        TypeError: If there is another value at any depth.
    """
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    for part in parts:
        _check_counts(part)
    if not isinstance(state, dict | list | tuple | int | float | None):
        raise TypeError(f"the state of the loops contains a {type(state).__name__}")


def _confine(state: dict[str, Any], folder: Path) -> None:
    """Remove the paths from the state of a callback that do not name a file directly in `folder`."""

    def is_inside(path: object) -> bool:
        return isinstance(path, str) and "://" not in path and Path(path).parent.resolve() == folder.resolve()

    for key in PATHS:
        if key in state and not is_inside(state[key]):
            state[key] = ""
    if isinstance(scores := state.get(SCORED_PATHS), dict):
        state[SCORED_PATHS] = {path: score for path, score in scores.items() if is_inside(path)}


def _end_epoch(loop: dict[str, Any]) -> None:
    """Turn the state after the last batch of an epoch into the state at the end of the epoch.

    Lightning resumes from the former too, but does not count the next epoch as started: if that epoch is interrupted
    and resumed again, some steps are repeated.
    """
    batches, epochs = loop["epoch_loop.batch_progress"], loop["epoch_progress"]
    is_after_batch = batches["current"]["completed"] == batches["current"]["processed"] - 1
    is_in_epoch = epochs["current"]["processed"] == epochs["current"]["started"] - 1
    if not (batches["is_last_batch"] and is_after_batch and is_in_epoch):
        return
    for counts in (batches["total"], batches["current"]):
        counts["completed"] += 1
    for counts in (epochs["total"], epochs["current"]):
        counts["processed"] += 1
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] += 1


class SaveOnStop(pl.Callback):
    """Callback that saves a checkpoint on SIGTERM, which schedulers send before they kill a run.

    Lightning first finishes the current batch. A partially accumulated step cannot be resumed, so the previous
    checkpoint is kept in that case.

    Args:
        path: Checkpoint file, the same as at the end of an epoch.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.between_steps = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record whether an optimizer step has ended with this batch."""
        last = batch_idx + 1 == trainer.num_training_batches
        self.between_steps = last or (batch_idx + 1) % trainer.accumulate_grad_batches == 0

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save if training was stopped by SIGTERM between two steps."""
        if isinstance(exception, SIGTERMException) and self.between_steps and trainer.training:
            trainer.save_checkpoint(self.path)
