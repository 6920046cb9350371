"""Trainings of a few steps in this process, with losses and callbacks for tests of callbacks."""

import math
import os
import warnings

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from pytorch_lightning.callbacks import ModelCheckpoint

from helpers.cli_settings import TINY
from reidlit.commands._data import build_datamodule
from reidlit.config import CONFIG_DIR, option
from reidlit.engine.reid import ReIDModule
from reidlit.losses import CrossEntropy


class Poisoned(CrossEntropy):
    """Cross entropy that is NaN or infinite in some calls on one rank.

    In these calls it is multiplied by `value`. With `value=None`, it is infinite with finite gradients. With
    `gradient`, it is finite and its gradient is NaN.
    """

    def __init__(self, calls, value=math.nan, gradient=False, rank=0):
        super().__init__()
        self.bad_calls, self.value, self.gradient = calls, value, gradient
        self.is_bad_rank = rank == int(os.environ.get("LOCAL_RANK", "0"))
        self.num_calls = 0

    def forward(self, output, pid):
        self.num_calls += 1
        loss = super().forward(output, pid)
        if self.num_calls not in self.bad_calls or not self.is_bad_rank:
            return loss
        if self.gradient:
            return loss + (output.logits[0] * 0).sqrt().sum()
        return loss + math.inf if self.value is None else loss * self.value


class Recorder(pl.Callback):
    """Records the image indices of each batch, and the weights, buffers and optimizer state after it."""

    def __init__(self):
        self.indices, self.states = [], []

    def on_train_batch_start(self, _trainer, _module, batch, _):
        self.indices.append(batch["index"].tolist())

    def on_train_batch_end(self, trainer, pl_module, *_):
        optimizer_state = trainer.optimizers[0].state_dict()["state"]
        flat = {f"{i}.{name}": value for i, state in optimizer_state.items() for name, value in state.items()}
        self.states.append({name: value.clone() for name, value in (pl_module.state_dict() | flat).items()})


def small_data(*overrides):
    """Return a prepared data module with synthetic images: by default 12 per batch and 3 batches per epoch."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        datamodule = build_datamodule(compose("train", [*TINY, "data.batch_size=12", *overrides]))
    datamodule.prepare_data()
    datamodule.setup("fit")
    return datamodule


def small_module(datamodule, loss=None, lr=1e-3, optimizer="adam", **options):
    torch.manual_seed(0)
    return ReIDModule(
        model=option("model", "osnet_x0_25"),
        pids=datamodule.pids,
        loss=loss or option("loss", "softmax"),
        optimizer=option("optimizer", optimizer) | {"lr": lr} | options,
        scheduler=option("scheduler", "constant"),
        image_size=[64, 32],
    )


def poisoned(**options):
    return {"losses": {"poisoned": {"_target_": "helpers.tiny_training.Poisoned", **options}}}


def fit(module, datamodule, *callbacks, epochs=2, **options):
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings["enable_checkpointing"] = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=list(callbacks), use_distributed_sampler=False, **(settings | options)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, datamodule)
    return trainer


def every_step(folder):
    """Return a callback that writes a checkpoint after every step."""
    return ModelCheckpoint(folder, "last", every_n_train_steps=1, enable_version_counter=False)


def same(one, other):
    """Return True if all tensors of a dict equal those of another dict."""
    return all(torch.equal(value, other[name]) for name, value in one.items())
