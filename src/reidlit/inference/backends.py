"""What runs a model: PyTorch, compiled PyTorch, or ONNX Runtime. All give the same embeddings."""

import tempfile
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from reidlit.export.batch_norm_folding import folded
from reidlit.export.formats import EmbedImages, load_onnx
from reidlit.export.onnx import export_onnx
from reidlit.models.model import ReIDModel

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Backend(Protocol):
    """Embeds batches."""

    takes_clips: bool

    def __call__(self, image: Tensor, camid: Tensor | None = None, frame_mask: Tensor | None = None) -> Tensor:
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

    def __call__(self, image: Tensor, camid: Tensor | None = None, frame_mask: Tensor | None = None) -> Tensor:
        """See `Backend`."""
        mixed = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with torch.inference_mode(), mixed:
            on_device = image.to(self.device, non_blocking=True)
            others = [None if tensor is None else tensor.to(self.device) for tensor in (camid, frame_mask)]
            embedding: Tensor = self.embed(on_device, *others)
        return embedding.float().cpu()


class FileBackend:
    """An exported file as a backend, with images of one size and without cameras.

    Args:
        embed: Runs the file, see `reidlit.export.formats.Format.load`.
    """

    takes_clips = False

    def __init__(self, embed: EmbedImages) -> None:
        self.embed = embed

    def __call__(self, image: Tensor, camid: Tensor | None = None, frame_mask: Tensor | None = None) -> Tensor:
        """See `Backend`."""
        del camid, frame_mask  # models that use cameras are not exported, and a file takes images
        return self.embed(image.contiguous())


class OnnxBackend(FileBackend):
    """A model in ONNX Runtime on the CPU.

    Args:
        model: in evaluation mode; stays as it is.
        image_size: height and width in pixels.

    Raises:
        ValueError: if ONNX Runtime or the exporter is not installed, or the model cannot be exported.
    """

    def __init__(self, model: ReIDModel, image_size: tuple[int, int]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(model, path, image_size)
            super().__init__(load_onnx(path))
