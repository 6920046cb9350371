"""Attribute recognition: what a person wears and carries, and who they are in general."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reidlit.data.attribute_data import AttributeBatch
from reidlit.engine.base import NetworkModule, Spec
from reidlit.metrics.attribute_metric import AttributeMetric, AttributeScores
from reidlit.models.output import ReIDOutput

SCORES = "scores"  # in a checkpoint: those of the last validation before it


class AttributeModule(NetworkModule):
    """Trains and evaluates a `ReIDModel` whose logits are attributes instead of identities.

    As `ReIDModule` it is built of plain values: `AttributeModule.load_from_checkpoint(path)` needs nothing else. Of several
    branches each is trained on all attributes, and the mean of their logits decides.

    Args:
        model: spec of the model; is given `num_classes`, the number of attributes. Its classifier gets a bias, also behind a
            batch norm: without one the mean logit of a rare attribute would be zero, that of an even chance.
        attributes: their names, in the order of the logits.
        ratios: the share of positive training labels of each, for losses that weight them.
        loss: `losses`, a spec each by name, `weights`, a number each, and `starts`, the epoch from which each counts; a loss
            reads the logits (B, A) and the labels (B, A). Needed for training only, as the next two.
        optimizer: spec for `build_optimizer`.
        scheduler: spec for `build_scheduler`.
        image_size: height and width of the images that the model is for, in pixels.
        threshold: probability from which on an attribute counts as predicted, in scores.
        channels_last: whether to keep feature maps with channels last in memory, which convolutions prefer.
        compile_model: whether to compile the model with `torch.compile`; needs a C++ compiler on the machine.

    Attributes:
        scores: the last ones by `val` and `test/<dataset>`.

    Raises:
        ValueError: if there is no attribute, or the threshold is out of range.
    """

    def __init__(
        self,
        model: Spec,
        attributes: Sequence[str],
        ratios: Sequence[float] | None = None,
        loss: Spec | None = None,
        optimizer: Spec | None = None,
        scheduler: Spec | None = None,
        image_size: Sequence[int] = (256, 128),
        threshold: float = 0.5,
        channels_last: bool = True,
        compile_model: bool = False,
    ) -> None:
        super().__init__()
        model = _with_bias(model)
        self.save_hyperparameters(logger=False)  # the task logs the whole configuration
        self._metric()  # a mistake here must not wait until the training is over
        self.build_network(ratios=ratios)
        self.metrics: dict[str, AttributeMetric] = {}
        self.scores: dict[str, AttributeScores] = {}

    @property
    def num_classes(self) -> int:
        """How many attributes there are."""
        return len(self.hparams["attributes"])

    def forward(self, image: Tensor, camid: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) images, uint8 or normalised, and for some models cameras (B,) -> (B, A) probabilities."""
        output: ReIDOutput = self.model(image, camid)
        return torch.stack(output.logits).float().mean(0).sigmoid()

    def attribute_probabilities(self, image: Tensor, camid: Tensor | None = None) -> Tensor:
        """As `forward`; other modules that know attributes have it too."""
        return self.forward(image, camid)

    def training_step(self, batch: AttributeBatch, batch_idx: int) -> Tensor:
        """One step; logs the loss, its terms if there are several, and the share of right decisions.

        Raises:
            ValueError: if there is no loss.
        """
        if self.loss is None:
            raise ValueError("loss=None: a module that is built without losses can be tested, not trained.")
        labels = batch["attributes"]
        output: ReIDOutput = self.model(batch["image"], batch["camid"])
        total: Tensor
        total, each = self.loss(output, labels, epoch=self.current_epoch)
        size, known = len(labels), labels >= 0
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=size)
        if len(each) > 1:
            self.log_dict({f"train/{name}": value.detach() for name, value in each.items()}, batch_size=size)
        right = (torch.stack(output.logits).detach().mean(0) >= 0) == (labels > 0)
        accuracy = (right & known).sum() / known.sum().clamp(min=1)
        self.log("train/accuracy", accuracy, prog_bar=True, batch_size=size)
        return total

    def on_validation_epoch_start(self) -> None:
        """Start counting anew."""
        self._start(["val"])

    def validation_step(self, batch: AttributeBatch, batch_idx: int) -> None:
        """Predict a batch of the validation split."""
        self._predict("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log `val/mA` and the others."""
        self._finish("val", "val")

    def on_test_epoch_start(self) -> None:
        """Start counting anew, for each test set."""
        self._start(self._test_names())

    def test_step(self, batch: AttributeBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Predict a batch of a test set."""
        self._predict(self._test_names()[dataloader_idx], batch)

    def on_test_epoch_end(self) -> None:
        """Log `test/<dataset>/mA` and the others of each test set."""
        for name in self._test_names():
            self._finish(name, f"test/{name}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See `NetworkModule`; and keep the scores of the validation that the checkpoint may be chosen by."""
        super().on_save_checkpoint(checkpoint)
        if "val" in self.scores:
            checkpoint[SCORES] = self.scores["val"].as_dict()

    def _metric(self) -> AttributeMetric:
        return AttributeMetric(self.num_classes, self.hparams["threshold"])

    def _test_names(self) -> list[str]:
        return list(self.trainer.test_dataloaders or {})

    def _start(self, names: Sequence[str]) -> None:
        self.metrics = {name: self._metric().to(self.device) for name in names}

    def _predict(self, name: str, batch: AttributeBatch) -> None:
        self.metrics[name].update(self(batch["image"], batch["camid"]), batch["attributes"])

    def _finish(self, name: str, prefix: str) -> None:
        scores: AttributeScores = self.metrics[name].compute()
        self.scores[prefix] = scores
        # On all ranks, where they are equal: each of them decides by val/mA whether a checkpoint is the best.
        self.log_dict({f"{prefix}/{key}": value for key, value in scores.as_dict().items()})


def _with_bias(model: Spec) -> dict[str, Any]:
    """A model's spec whose classifier has a bias, where it has the choice."""
    classifier = model.get("classifier")
    if not isinstance(classifier, Mapping) or "bias" not in classifier:
        return dict(model)
    return {**model, "classifier": {**classifier, "bias": True}}
