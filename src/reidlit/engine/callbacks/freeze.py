"""Two-step training: first only the new layers, then all layers."""

from collections.abc import Sequence
from typing import cast

import pytorch_lightning as pl
from torch import nn

from reidlit.engine.optim import named_modules
from reidlit.engine.reid import ReIDModule


class Freeze(pl.Callback):
    """Callback that trains only some layers in the first epochs.

    All other layers keep their weights and batch-norm statistics.

    The learning-rate schedule is not affected. Parameters that were frozen before training stay frozen.

    Source: Geng et al., "Deep Transfer Learning for Person Re-identification", arXiv 2016.

    Args:
        epochs: Number of epochs with frozen layers; 0 freezes nothing.
        open_layers: Dotted names of the modules that train, such as `classifier`, `neck` or `backbone.conv5`.

    Raises:
        ValueError: If epochs is negative; during training, if a module does not exist.
    """

    def __init__(self, epochs: int, open_layers: Sequence[str] = ("classifier",)) -> None:
        if epochs < 0:
            raise ValueError(f"freeze.epochs={epochs} is invalid: must be at least 0.")
        self.epochs = epochs
        self.open_layers = tuple(open_layers)
        self._frozen: list[nn.Parameter] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Freeze layers if training resumes within an epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Freeze or unfreeze layers, depending on the epoch only, so that a resumed run behaves the same."""
        networks = cast("ReIDModule", pl_module).networks
        if trainer.current_epoch >= self.epochs:
            if self._frozen:
                for network in networks:
                    network.train()
            while self._frozen:
                self._frozen.pop().requires_grad_(True)
            return
        for network in networks:
            self._freeze(network)

    def _freeze(self, model: nn.Module) -> None:
        open_layers = named_modules(model, self.open_layers, "freeze.open_layers")
        trained_ids = {id(parameter) for layer in open_layers for parameter in layer.parameters()}
        model.eval()
        for layer in open_layers:
            layer.train()
        for parameter in model.parameters():
            if parameter.requires_grad and id(parameter) not in trained_ids:
                parameter.requires_grad_(False)
                self._frozen.append(parameter)
