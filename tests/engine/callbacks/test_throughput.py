"""`GradientNorm` and `Throughput`: logged values compared with values computed by hand."""

import csv

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader

from reidlit.engine.callbacks.throughput import GradientNorm, Throughput

IMAGES = [
    {"index": torch.tensor(n), "image": torch.randn(4, generator=torch.Generator().manual_seed(n))} for n in range(24)
]


class Regression(pl.LightningModule):
    """A module with two layers; one gets no gradient."""

    def __init__(self, optimizer):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.unused = nn.Linear(4, 3), nn.Linear(2, 2)
        self.optimizer = optimizer
        self.norms = []

    def training_step(self, batch):
        return self.layer(batch["image"]).square().mean()

    def configure_optimizers(self):
        return self.optimizer(self.parameters())

    def on_before_optimizer_step(self, optimizer):
        squares = [
            p.grad.square().sum() for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        self.norms.append(float(torch.stack(squares).sum().sqrt()))


def fit(module, folder, callbacks, **options):
    loader = DataLoader(IMAGES, batch_size=4)
    options = {"max_epochs": 2, "log_every_n_steps": 2, "accelerator": "cpu"} | options
    trainer = pl.Trainer(
        **options,
        logger=CSVLogger(folder, name="", version=""),
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.01)


@pytest.mark.parametrize("options", [{}, {"gradient_clip_val": 1e-3}, {"accumulate_grad_batches": 2}])
def test_norm_includes_all_gradients_before_clipping(options, tmp_path):
    module = Regression(sgd)
    rows = fit(module, tmp_path, [GradientNorm()], **options)
    logged = [float(row["train/grad_norm"]) for row in rows if row["train/grad_norm"]]
    assert logged == pytest.approx(module.norms[1::2])
    assert min(logged) > 1e-2


@pytest.mark.parametrize("fused", [False, True])
def test_norm_excludes_loss_scale(fused, tmp_path):
    """A fused optimizer receives scaled gradients, with a norm that is 1024 times larger."""

    def adam(parameters):
        return torch.optim.Adam(parameters, lr=1e-3, fused=fused)

    norms = []
    for name, plugins in {
        "plain": None,
        "scaled": MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0)),
    }.items():
        module = Regression(adam)
        rows = fit(module, tmp_path / name, [GradientNorm()], plugins=plugins, max_epochs=1)
        norms.append([float(row["train/grad_norm"]) for row in rows if row["train/grad_norm"]])
    assert len(norms[0]) == 3
    assert norms[1] == pytest.approx(norms[0], rel=2e-2)  # half precision


def test_throughput_excludes_the_first_batch_of_an_epoch(tmp_path):
    """Four images per batch, logged every second step."""
    ends = iter([0.0, 1.0, 3.0, 4.0, 8.0, 9.0, 100.0, 101.0, 103.0, 104.0, 108.0, 109.0])
    rows = fit(Regression(sgd), tmp_path, [Throughput(clock=lambda: next(ends))])
    logged = [float(row["train/images_per_second"]) for row in rows if row["train/images_per_second"]]
    assert logged == pytest.approx([4 / 1, 8 / 3, 8 / 5] * 2)
