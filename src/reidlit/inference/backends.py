"""Backends that run a model: PyTorch, compiled PyTorch and ONNX Runtime. Their embeddings agree."""

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
    """Callable that embeds batches of images.

    Attributes:
        takes_clips: Whether clips of tracklets are supported.
    """

    takes_clips: bool

    def __call__(self, image: Tensor, camid: Tensor | None = None, frame_mask: Tensor | None = None) -> Tensor:
        """Embed images (B, 3, H, W), uint8 on the CPU, as (B, D), float32 on the CPU.

        Clips are passed as to `ReIDModel.forward`.
        """


class TorchBackend:
    """PyTorch backend with batch norms folded into the layers before them.

    Args:
        model: Model in evaluation mode; it is not changed.
        image_size: Height and width in pixels.
        device: Device to run on.
        precision: Precision of convolutions and matrix products: `fp32`, `bf16` or `fp16`.
        compiled: Whether to use `torch.compile`, which requires a C++ compiler.
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
        """Embed a batch; see `Backend`."""
        mixed = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with torch.inference_mode(), mixed:
            on_device = image.to(self.device, non_blocking=True)
            camera, mask = (None if tensor is None else tensor.to(self.device) for tensor in (camid, frame_mask))
            embedding: Tensor = self.embed(on_device, camera, mask)
        return embedding.float().cpu()


class FileBackend:
    """Backend of an exported file, which accepts images of one size and no cameras.

    Args:
        embed: Function that runs the file; see `reidlit.export.formats.Format.load`.
    """

    takes_clips = False

    def __init__(self, embed: EmbedImages) -> None:
        self.embed = embed

    def __call__(self, image: Tensor, camid: Tensor | None = None, frame_mask: Tensor | None = None) -> Tensor:
        """Embed a batch; see `Backend`."""
        del camid, frame_mask  # exported models use neither cameras nor clips
        return self.embed(image.contiguous())


class OnnxBackend(FileBackend):
    """ONNX Runtime backend on the CPU.

    Args:
        model: Model in evaluation mode; it is not changed.
        image_size: Height and width in pixels.

    Raises:
        ValueError: If ONNX Runtime or the exporter is not installed, or the model cannot be exported.
    """

    def __init__(self, model: ReIDModel, image_size: tuple[int, int]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(model, path, image_size)
            super().__init__(load_onnx(path))
