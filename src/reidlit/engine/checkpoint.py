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
