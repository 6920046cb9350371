"""What every LightningModule around a `ReIDModel` has, whatever it is trained for."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer

from reidlit.engine.optim import build_optimizer
from reidlit.engine.schedules import build_scheduler
from reidlit.losses import WeightedSum
from reidlit.models.model import ReIDModel
from reidlit.models.weights import load_weights, read_checkpoint
from reidlit.spec import accepts, build, check_saved

Spec = Mapping[str, Any]


class NetworkModule(pl.LightningModule):
    """Builds a model, its losses, the optimiser and the schedule from plain dicts.

    A subclass saves its hyperparameters, with `model`, `loss`, `optimizer`, `scheduler`, `image_size`, `channels_last` and
    `compile_model` among them, and calls `build_network`.
    """

    model: ReIDModel
    loss: WeightedSum | None

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *given: Any, **changes: Any) -> Self:
        """As Lightning's, which it hands over to once nothing is found in the file that might do harm.

        Args:
            checkpoint_path: the file.
            given: see Lightning, as the next.
            changes: hyperparameters among them, which come before those of the file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it cannot be read, or asks to build what is not trusted; see `reidlit.spec.check_saved`.
        """
        content = read_checkpoint(checkpoint_path)
        if isinstance(content, Mapping):
            saved = content.get("hyper_parameters")
            kept = (
                {key: value for key, value in saved.items() if key not in changes}
                if isinstance(saved, Mapping)
                else saved
            )
            check_saved({**content, "hyper_parameters": kept}, checkpoint_path)
        return super().load_from_checkpoint(checkpoint_path, *given, **changes)

    @property
    def num_classes(self) -> int:
        """How many logits the model has."""
        raise NotImplementedError

    @property
    def networks(self) -> list[ReIDModel]:
        """All networks that are trained; `model`, which is evaluated and deployed, comes first."""
        return [self.model]

    def build_network(self, **known: Any) -> None:
        """Build the model and its losses, which are given what is known and they have an argument for."""
        self.model = self._network(self.hparams["model"])
        self.loss = self._losses(self.model, **known)

    def start_from(self, path: str | Path) -> str:
        """Load a weight file into the network before it is trained, and say what became of it.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no weight file, or nothing of the backbone fits.
        """
        return str(load_weights(self.model, path))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record a model that starts from nothing: a checkpoint brings its weights and must not fetch others first."""
        saved = checkpoint["hyper_parameters"]
        checkpoint["hyper_parameters"] = {**saved, "model": without_fetching(saved["model"])}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser, over the model's parameters and those of losses that have some, and the schedule."""
        optimizer = self._optimizer()
        spec = self.hparams["scheduler"]
        scheduler = build_scheduler(optimizer, spec, self._steps_per_epoch)
        interval = spec.get("interval", "epoch")
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    def _optimizer(self) -> Optimizer:
        return build_optimizer(self.model, self.hparams["optimizer"], self.loss)

    def _network(self, spec: Spec) -> ReIDModel:
        size = {"image_size": list(self.hparams["image_size"])} if "image_size" in spec else {}
        network: ReIDModel = build({**spec, **size}, num_classes=self.num_classes)
        if self.hparams["channels_last"]:
            network.to(memory_format=torch.channels_last)
        if self.hparams["compile_model"]:
            network.compile()
        return network

    def _losses(self, network: ReIDModel, **known: Any) -> WeightedSum | None:
        loss = self.hparams["loss"]
        if loss is None:
            return None
        sizes = {"num_classes": self.num_classes, "feature_sizes": network.feature_sizes, **known}
        terms = {name: build(spec, **accepts(spec, sizes)) for name, spec in loss["losses"].items()}
        return WeightedSum(terms, loss.get("weights"), loss.get("starts"))

    def _steps_per_epoch(self) -> float:
        """Of the optimiser; infinite before the loaders are made, which must not happen earlier on their account."""
        batches, accumulated = self.trainer.num_training_batches, self.trainer.accumulate_grad_batches
        return -(-batches // accumulated) if math.isfinite(batches) else math.inf


def without_fetching(model: Spec) -> dict[str, Any]:
    """A model's spec without the ImageNet weights that it may have started from."""
    return {**model, "pretrained": False} if "pretrained" in model else dict(model)
