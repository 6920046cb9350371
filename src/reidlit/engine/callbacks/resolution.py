"""Small images first, which cost less."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional


class ResolutionSchedule(pl.Callback):
    """For the first epochs train on smaller images; the last ones, and all tests, have the full size.

    A convolution costs what the area costs, and most of what a network learns does not need the full size. Sources:
    Touvron, Vedaldi, Douze, Jegou, "Fixing the train-test resolution discrepancy", NeurIPS 2019; Tan, Le,
    "EfficientNetV2: Smaller Models and Faster Training", ICML 2021.

    Args:
        epochs: how many; 0 for none.
        scale: of both sides, above 0 and up to 1.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, epochs: int, scale: float = 0.5) -> None:
        if epochs < 0:
            raise ValueError(f"resolution.epochs={epochs} must be 0 or more.")
        if not 0 < scale <= 1:
            raise ValueError(f"resolution.scale={scale} must be above 0 and at most 1.")
        self.epochs, self.scale = epochs, scale

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: dict[str, Any], batch_idx: int
    ) -> None:
        """Resize the batch where it lies, which is on the device."""
        if trainer.current_epoch < self.epochs:
            batch["image"] = resized(batch["image"], self.scale)


def resized(image: Tensor, scale: float) -> Tensor:
    """Images (..., 3, H, W) by `scale`, with antialiasing; uint8 stays uint8."""
    height, width = (max(1, round(side * scale)) for side in image.shape[-2:])
    flat = image.flatten(0, -4)
    small = functional.interpolate(flat.float(), (height, width), mode="bilinear", antialias=True)
    if image.dtype == torch.uint8:
        small = small.round().clamp(0, 255)
    return small.to(image.dtype).reshape(*image.shape[:-2], height, width)
