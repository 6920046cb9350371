"""`ResolutionSchedule`: training on smaller images in the first epochs."""

import pytest
import pytorch_lightning as pl
import torch

from reidlit.engine.callbacks.resolution import ResolutionSchedule, resized


@pytest.mark.parametrize(("scale", "size"), [(0.5, (32, 16)), (0.667, (43, 21)), (1, (64, 32)), (0.001, (1, 1))])
@pytest.mark.parametrize("shape", [(3, 3, 64, 32), (2, 4, 3, 64, 32)])
def test_resized_images_keep_dtype(scale, size, shape):
    image = torch.randint(0, 256, shape, dtype=torch.uint8)
    small = resized(image, scale)
    assert small.shape == (*shape[:-2], *size)
    assert small.dtype == torch.uint8
    assert resized(image.double(), scale).dtype == torch.float64


def test_resizing_is_antialiased():
    """A checkerboard of single pixels becomes gray, not black or white."""
    checkerboard = ((torch.arange(64)[:, None] + torch.arange(32)) % 2 * 255).to(torch.uint8).expand(1, 3, 64, 32)
    inner = resized(checkerboard, 0.5)[..., 1:-1, 1:-1]
    assert inner.min() > 100
    assert inner.max() < 155


class SizeRecorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.sizes = []

    def training_step(self, batch):
        self.sizes.append(tuple(batch["image"].shape[-2:]))
        return self.weight * batch["image"].float().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_images_have_full_size_after_first_epochs(tmp_path):
    module = SizeRecorder()
    loader = torch.utils.data.DataLoader([{"image": torch.zeros(3, 64, 32, dtype=torch.uint8)}] * 4, batch_size=2)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        callbacks=[ResolutionSchedule(epochs=2, scale=0.25)], default_root_dir=tmp_path, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    assert module.sizes == [(16, 8)] * 4 + [(64, 32)] * 2


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({"epochs": -1}, r"resolution\.epochs=-1"),
        ({"epochs": 1, "scale": 0}, r"resolution\.scale=0"),
        ({"epochs": 1, "scale": 1.5}, r"resolution\.scale=1\.5"),
    ],
)
def test_invalid_arguments_raise(arguments, pattern):
    with pytest.raises(ValueError, match=pattern):
        ResolutionSchedule(**arguments)
