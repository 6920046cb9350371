"""Attribute recognition: what a person wears and carries, and who they are in general."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from reidlit.data.attribute_data import AttributeBatch, AttributeDataModule
from reidlit.data.datamodule import ReIDDataModule
from reidlit.engine.base import NetworkModule, Resumed, Spec
from reidlit.metrics.attribute_metric import AttributeMetric, AttributeScores
from reidlit.models.output import ReIDOutput
from reidlit.models.weights import read_checkpoint
from reidlit.runs.metric_values import attribute_metrics, finite
from reidlit.runs.result import Stage, TestResult

SCORES = "scores"  # in a checkpoint: those of the last validation before it


class AttributeModule(NetworkModule[AttributeMetric, AttributeBatch]):
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

    Raises:
        ValueError: if there is no attribute, or the threshold is out of range.
    """

    resumed_with: ClassVar[tuple[Resumed, ...]] = (
        *NetworkModule.resumed_with,
        Resumed("attributes", "other attributes", "data="),
    )
    validated: ClassVar[tuple[str, ...] | None] = ("mA", "accuracy", "precision", "recall", "f1")

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
        self.save_hyperparameters(logger=False)  # the command logs the whole configuration
        self.build_metric("test")  # invalid options must fail now, not after training
        self.build_network(ratios=ratios)

    @classmethod
    def data_options(cls, datamodule: ReIDDataModule, evaluation: Spec) -> dict[str, Any]:  # noqa: ARG003 of retrieval
        """Return the attributes and their frequencies; see `NetworkModule`."""
        data = _attribute_data(datamodule)
        return {"attributes": list(data.names), "ratios": data.ratios}

    @classmethod
    def check_data(cls, datamodule: ReIDDataModule) -> None:
        """Refuse data without attributes; see `NetworkModule`."""
        _attribute_data(datamodule)

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
        labels = batch["attributes"]
        output: ReIDOutput = self.model(batch["image"], batch["camid"])
        total: Tensor
        total, terms = self.required_loss(self.loss)(output, labels, epoch=self.current_epoch)
        size, known = len(labels), labels >= 0
        self.log_losses(total, terms, size)
        right = (torch.stack(output.logits).detach().mean(0) >= 0) == (labels > 0)
        accuracy = (right & known).sum() / known.sum().clamp(min=1)
        self.log("train/accuracy", accuracy, prog_bar=True, batch_size=size)
        return total

    def load_selected(self, path: Path) -> TestResult:
        """Load the weights of the selected checkpoint; see `NetworkModule`.

        The Trainer is not used for this, since its averaging callback would restore the weights before averaging.
        """
        content = read_checkpoint(path)
        self.load_state_dict(content["state_dict"])
        return TestResult("val", None, finite(content[SCORES]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the scores of the last validation, by which the checkpoint may be selected; see `NetworkModule`."""
        super().on_save_checkpoint(checkpoint)
        if None in self.metrics:
            checkpoint[SCORES] = self.scores(None).as_dict()

    def build_metric(self, stage: Stage) -> AttributeMetric:
        """Build the metric; see `NetworkModule`."""
        return AttributeMetric(self.num_classes, self.hparams["threshold"])

    def update_metric(self, metric: AttributeMetric, batch: AttributeBatch, dataset: str | None) -> None:
        """Predict a batch; see `NetworkModule`."""
        metric.update(self(batch["image"], batch["camid"]), batch["attributes"])

    def scores(self, dataset: str | None) -> AttributeScores:
        """Return the scores of a test set, or of the last validation; see `NetworkModule`."""
        scores: AttributeScores = self.metrics[dataset].compute()
        return scores

    def result(self, dataset: str, item_name: str = "images", stage: Stage = "test") -> TestResult:
        """Return the metrics of a test set and of each attribute; see `NetworkModule`."""
        return TestResult(stage, dataset, attribute_metrics(self.scores(dataset), self.hparams["attributes"]))


def _with_bias(model: Spec) -> dict[str, Any]:
    """A model's spec whose classifier has a bias, where it has the choice."""
    classifier = model.get("classifier")
    if not isinstance(classifier, Mapping) or "bias" not in classifier:
        return dict(model)
    return {**model, "classifier": {**classifier, "bias": True}}


def _attribute_data(datamodule: ReIDDataModule) -> AttributeDataModule:
    if not isinstance(datamodule, AttributeDataModule):
        raise ValueError(
            f"data={datamodule.name} has identities and no attributes: engine=attributes is for data=pa100k, "
            "data=attribute_csv or data=synthetic_attributes."
        )
    return datamodule
