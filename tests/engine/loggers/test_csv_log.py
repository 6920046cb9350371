"""CSV log: every row is on disk before the checkpoint after which training continues."""

import csv

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.demos.boring_classes import BoringModel

from reidlit.engine.callbacks.log_before_checkpoint import LogBeforeCheckpoint
from reidlit.engine.loggers.csv_log import CSVLog


class Logging(BoringModel):
    """Model that logs each step, the end of each epoch and the validation."""

    def training_step(self, batch):
        loss = self.step(batch)
        self.log("train/loss", loss)
        self.log("train/nan", torch.nan)
        self.log("train/mean_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch):
        self.log("val/loss", self.step(batch))


def rows(folder):
    """Return the rows of a log without empty cells."""
    file = folder / "csv" / "metrics.csv"
    if not file.is_file():
        return []
    with file.open(newline="") as opened:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(opened)]


def fit(folder, *callbacks, **options):
    torch.manual_seed(0)
    log = CSVLog(folder, name="", version="csv")
    options = {"max_epochs": 2, "limit_train_batches": 4, "limit_val_batches": 1, "log_every_n_steps": 1} | options
    trainer = pl.Trainer(
        **options,
        accelerator="cpu",
        logger=log,
        callbacks=[*callbacks, LearningRateMonitor(), LogBeforeCheckpoint()],
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Logging())
    return rows(folder)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"log_every_n_steps": 2}])
@pytest.mark.parametrize(
    "when", [{"every_n_train_steps": 1}, {"save_on_train_epoch_end": True}, {"monitor": "val/loss"}]
)
def test_checkpoints_change_no_row(when, options, tmp_path):
    expected = fit(tmp_path / "without", **options)
    found = fit(tmp_path / "with", ModelCheckpoint(tmp_path / "checkpoints", **when), **options)
    assert found == expected
    assert any("train/mean_loss" in row for row in found)


def test_rows_are_on_disk_before_the_checkpoint(tmp_path, monkeypatch):
    on_disk = []

    def save(trainer, *_):
        trainer._checkpoint_connector.dump_checkpoint()
        on_disk.append((trainer.global_step, rows(tmp_path)))

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", save)
    fit(
        tmp_path,
        ModelCheckpoint(tmp_path / "steps", every_n_train_steps=1),
        ModelCheckpoint(tmp_path / "epochs", save_on_train_epoch_end=True),
    )
    assert len(on_disk) == 8 + 2
    for step, found in on_disk:
        assert sum("train/loss" in row for row in found) == step
    assert [sum("train/mean_loss" in row for row in found) for step, found in on_disk if step in (4, 8)] == [0, 1, 1, 2]


def test_row_is_complete_after_a_new_column(tmp_path):
    log = CSVLog(tmp_path, name="", version="csv")
    for step, names in enumerate(["a", "b", "c"]):
        log.log_metrics({names: step + 0.5}, step)
        log.save()
    assert rows(tmp_path) == [{"a": "0.5", "step": "0"}, {"b": "1.5", "step": "1"}, {"c": "2.5", "step": "2"}]
    assert [path.name for path in (tmp_path / "csv").iterdir()] == ["metrics.csv"]
