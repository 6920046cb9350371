"""Training and evaluation of pedestrian attribute recognition."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from reidlit.data.attribute_data import AttributeBatch, AttributeDataModule
from reidlit.data.datamodule import ReIDDataModule
from reidlit.engine.base import NetworkModule, Resumed, Spec
from reidlit.foreign_files import reading
from reidlit.metrics.attribute_metric import AttributeMetric, AttributeScores
from reidlit.models.output import ReIDOutput
from reidlit.models.weights import read_checkpoint
from reidlit.runs.metric_values import attribute_metrics, finite
from reidlit.runs.result import Stage, TestResult

SCORES = "scores"  # checkpoint key of the scores of the last validation


class AttributeModule(NetworkModule[AttributeMetric, AttributeBatch]):
    """LightningModule for pedestrian attribute recognition, with attributes instead of identities as logits.

    Like `ReIDModule`, it is built from plain values, so `AttributeModule.load_from_checkpoint(path)` needs no other
    arguments. If the model has several branches, each is trained on all attributes, and predictions use their mean
    logits.

    Args:
        model: Spec of the model, built with `num_classes` set to the number of attributes. Its classifier always gets a
            bias: without one, the mean logit of a rare attribute after a batch norm would be zero, a probability of
                1/2.
        attributes: Attribute names, in the order of the logits.
        ratios: Fraction of positive training labels of each attribute, for losses with weights.
        loss: Specs of the losses by name (`losses`), their weights (`weights`) and the first epoch of each (`starts`).
            A loss receives (B, A) logits and (B, A) labels. Required for training only, like `optimizer` and
            `scheduler`.
        optimizer: Spec for `build_optimizer`.
        scheduler: Spec for `build_scheduler`.
        image_size: Height and width of the input images in pixels.
        threshold: Probability from which an attribute counts as predicted in the scores, above 0 and below 1.
        channels_last: Whether to store feature maps with channels last, which is faster for convolutions.
        compile_model: Whether to compile the model with `torch.compile`, which requires a C++ compiler.

    Raises:
        ValueError: If there are no attributes, or the threshold is out of range.
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
        """Check that the dataset has attributes; see `NetworkModule`."""
        _attribute_data(datamodule)

    @property
    def num_classes(self) -> int:
        """Number of attributes."""
        return len(self.hparams["attributes"])

    def forward(self, image: Tensor, camid: Tensor | None = None) -> Tensor:
        """Predict attributes.

        Args:
            image: (B, 3, H, W) images, uint8 or normalized.
            camid: (B,) cameras, for camera-aware models.

        Returns:
            (B, A) probabilities.
        """
        output: ReIDOutput = self.model(image, camid)
        return torch.stack(output.logits).float().mean(0).sigmoid()

    def attribute_probabilities(self, image: Tensor, camid: Tensor | None = None) -> Tensor:
        """Return `forward(image, camid)`; all modules that predict attributes have this method."""
        return self.forward(image, camid)

    def training_step(self, batch: AttributeBatch, batch_idx: int) -> Tensor:
        """Compute the loss; log it, its terms if there are several, and the accuracy over known labels.

        Raises:
            ValueError: If the module was built without losses.
        """
        labels = batch["attributes"]
        output: ReIDOutput = self.model(batch["image"], batch["camid"])
        total: Tensor
        total, terms = self.required_loss(self.loss)(output, labels, epoch=self.current_epoch)
        size, known = len(labels), labels >= 0
        self.log_losses(total, terms, size)
        correct = (torch.stack(output.logits).detach().mean(0) >= 0) == (labels > 0)
        accuracy = (correct & known).sum() / known.sum().clamp(min=1)
        self.log("train/accuracy", accuracy, prog_bar=True, batch_size=size)
        return total

    def load_selected(self, path: Path) -> TestResult:
        """Load the weights of the selected checkpoint; see `NetworkModule`.

        The Trainer is not used here, because its averaging callback would restore the weights from before averaging.
        """
        content = read_checkpoint(path)
        with reading(path, "Test another checkpoint of this run with `reidlit test`."):
            self.load_state_dict(content["state_dict"])
            return TestResult("val", None, finite(content[SCORES]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the scores of the last validation, on which checkpoint selection is based; see `NetworkModule`."""
        super().on_save_checkpoint(checkpoint)
        if None in self.metrics:
            checkpoint[SCORES] = self.scores(None).as_dict()

    def build_metric(self, stage: Stage) -> AttributeMetric:
        """Build the metric; see `NetworkModule`."""
        return AttributeMetric(self.num_classes, self.hparams["threshold"])

    def update_metric(self, metric: AttributeMetric, batch: AttributeBatch, dataset: str | None) -> None:
        """Predict the attributes of a batch; see `NetworkModule`."""
        metric.update(self(batch["image"], batch["camid"]), batch["attributes"])

    def scores(self, dataset: str | None) -> AttributeScores:
        """Return the scores of a test set, or of the last validation; see `NetworkModule`."""
        scores: AttributeScores = self.metrics[dataset].compute()
        return scores

    def result(self, dataset: str, item_name: str = "images", stage: Stage = "test") -> TestResult:
        """Return the metrics of a test set and of each attribute; see `NetworkModule`."""
        return TestResult(stage, dataset, attribute_metrics(self.scores(dataset), self.hparams["attributes"]))


def _with_bias(model: Spec) -> dict[str, Any]:
    """Return the spec of a model with a bias in the classifier, if the classifier has this option."""
    classifier = model.get("classifier")
    if not isinstance(classifier, Mapping) or "bias" not in classifier:
        return dict(model)
    return {**model, "classifier": {**classifier, "bias": True}}


def _attribute_data(datamodule: ReIDDataModule) -> AttributeDataModule:
    if not isinstance(datamodule, AttributeDataModule):
        raise ValueError(
            f"engine=attributes requires attribute labels, but data={datamodule.name} has identities only. Use "
            "data=pa100k, data=attribute_csv or data=synthetic_attributes."
        )
    return datamodule
