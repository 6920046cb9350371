"""Training on smaller images in the first epochs."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional


class ResolutionSchedule(pl.Callback):
    """Callback that trains on smaller images in the first epochs.

    The remaining epochs, validation and tests use the full size. The cost of a convolution is proportional to the image
    area, and networks learn most features without the full resolution.

    Sources: Touvron, Vedaldi, Douze, Jegou, "Fixing the train-test resolution discrepancy", NeurIPS 2019; Tan, Le,
    "EfficientNetV2: Smaller Models and Faster Training", ICML 2021.

    Args:
        epochs: Number of epochs with smaller images; 0 for none.
        scale: Factor of height and width, above 0 and at most 1.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, epochs: int, scale: float = 0.5) -> None:
        if epochs < 0:
            raise ValueError(f"resolution.epochs={epochs} is invalid: must be at least 0.")
        if not 0 < scale <= 1:
            raise ValueError(f"resolution.scale={scale} is invalid: must be above 0 and at most 1.")
        self.epochs, self.scale = epochs, scale

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: dict[str, Any], batch_idx: int
    ) -> None:
        """Resize the images of the batch on the device."""
        if trainer.current_epoch < self.epochs:
            batch["image"] = resized(batch["image"], self.scale)


def resized(image: Tensor, scale: float) -> Tensor:
    """Resize (..., 3, H, W) images by a factor, with antialiasing; the dtype is unchanged."""
    height, width = (max(1, round(side * scale)) for side in image.shape[-2:])
    images = image.flatten(0, -4)
    small = functional.interpolate(images.float(), (height, width), mode="bilinear", antialias=True)
    if image.dtype == torch.uint8:
        small = small.round().clamp(0, 255)
    return small.to(image.dtype).reshape(*image.shape[:-2], height, width)
