"""Two-step training: first the new layers alone, then everything."""

from collections.abc import Sequence
from typing import cast

import pytorch_lightning as pl
from torch import nn

from reidlit.engine.optim import named_modules
from reidlit.engine.reid import ReIDModule


class Freeze(pl.Callback):
    """For the first epochs train only the named parts; the others keep their weights and batch-norm statistics.

    Source: Geng et al., "Deep Transfer Learning for Person Re-identification", arXiv 2016. The learning-rate schedule
    keeps running. What was frozen before the run stays frozen after it.

    Args:
        epochs: how many; 0 freezes nothing.
        open_layers: dotted names of the parts that train, e.g. `classifier`, `neck`, `backbone.conv5`.

    Raises:
        ValueError: if epochs is negative.
    """

    def __init__(self, epochs: int, open_layers: Sequence[str] = ("classifier",)) -> None:
        if epochs < 0:
            raise ValueError(f"freeze.epochs={epochs} must be 0 or more.")
        self.epochs = epochs
        self.open_layers = tuple(open_layers)
        self._frozen: list[nn.Parameter] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Likewise where a run goes on within an epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Freeze or release, by the epoch alone, so that a resumed run does as the unbroken one."""
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
        opened = named_modules(model, self.open_layers, "freeze.open_layers")
        trained = {id(parameter) for layer in opened for parameter in layer.parameters()}
        model.eval()
        for layer in opened:
            layer.train()
        for parameter in model.parameters():
            if parameter.requires_grad and id(parameter) not in trained:
                parameter.requires_grad_(False)
                self._frozen.append(parameter)
