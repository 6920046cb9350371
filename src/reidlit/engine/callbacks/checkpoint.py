"""Writing checkpoints so that a full disk or a kill never leaves half of one."""

import io
import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to the disk, then renames: a checkpoint is whole or the old one stays."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`.

        Raises:
            OSError: if it cannot be written, with what remains.
        """
        target = Path(path)
        part = target.with_name(f"{target.name}.part")
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OSError(
                error.errno,
                f"the checkpoint {target} ({buffer.getbuffer().nbytes / 1e6:.1f} MB) cannot be written: "
                f"{error.strerror}. Earlier checkpoints are intact: free space, or choose another hydra.run.dir, "
                "and resume with ckpt_path=last",
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read what `save_checkpoint` has written, to go on from it."""
        checkpoint: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only)
        if "fit_loop" in checkpoint.get("loops", {}):
            _end_epoch(checkpoint["loops"]["fit_loop"])
        return checkpoint


def _end_epoch(loop: dict[str, Any]) -> None:
    """Let a checkpoint that was written after the last batch of an epoch be one of the epoch's end.

    Lightning goes on from the first too, but does not count the epoch that follows as begun: if that is stopped in its middle
    and gone on with once more, steps are done twice.
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
