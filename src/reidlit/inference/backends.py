"""What runs a model: PyTorch, compiled PyTorch, or ONNX Runtime. All give the same embeddings."""

import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidlit.export.batch_norm_folding import folded
from reidlit.export.onnx import export_onnx
from reidlit.models.model import ReIDModel

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Backend(Protocol):
    """Embeds batches."""

    takes_clips: bool

    def __call__(self, image: Tensor, camid: Tensor | None = None, frames: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) uint8 on the CPU -> (B, D) float32 on the CPU; or clips, see `ReIDModel.forward`."""


class TorchBackend:
    """A model with its batch norms folded, on a device.

    Args:
        model: in evaluation mode; stays as it is.
        image_size: height and width in pixels.
        device: where to.
        precision: of convolutions and products: fp32, bf16 or fp16.
        compiled: whether to compile it with `torch.compile`, which needs a C++ compiler on the machine.
    """

    takes_clips = True

    def __init__(
        self,
        model: ReIDModel,
        image_size: tuple[int, int],
        device: torch.device,
        precision: str,
        compiled: bool = False,
    ) -> None:
        self.device = device
        self.dtype = PRECISIONS[precision]
        fast = folded(model, image_size).to(device).to(memory_format=torch.channels_last)
        self.embed: Any = torch.compile(fast.embed, dynamic=True) if compiled else fast.embed

    def __call__(self, image: Tensor, camid: Tensor | None = None, frames: Tensor | None = None) -> Tensor:
        """See `Backend`."""
        mixed = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with torch.inference_mode(), mixed:
            on_device = image.to(self.device, non_blocking=True)
            known = [None if each is None else each.to(self.device) for each in (camid, frames)]
            embedding: Tensor = self.embed(on_device, *known)
        return embedding.float().cpu()


class OnnxBackend:
    """A model in ONNX Runtime on the CPU.

    Args:
        model: in evaluation mode; stays as it is.
        image_size: height and width in pixels.

    Raises:
        ValueError: if ONNX Runtime or the exporter is not installed, or the model cannot be exported.
    """

    takes_clips = False

    def __init__(self, model: ReIDModel, image_size: tuple[int, int]) -> None:
        try:
            import onnxruntime

            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                export_onnx(model, path, image_size)
                options = onnxruntime.SessionOptions()
                options.log_severity_level = 3
                self.session: Any = onnxruntime.InferenceSession(
                    path.read_bytes(), options, providers=["CPUExecutionProvider"]
                )
        except ImportError as error:
            raise ValueError(
                f"backend='onnx' needs what is not installed ({error}): pip install reidlit[export]."
            ) from error

    def __call__(self, image: Tensor, camid: Tensor | None = None, frames: Tensor | None = None) -> Tensor:
        """See `Backend`."""
        del camid, frames  # models that use cameras are not exported, and a file takes images
        found: NDArray[Any] = self.session.run(None, {"image": np.ascontiguousarray(image.numpy())})[0]
        return torch.from_numpy(found)
