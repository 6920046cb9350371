"""Joint training on identities and their attributes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from reidlit.data.identity_attributes import read_identity_attributes
from reidlit.data.sample import Batch
from reidlit.engine.base import ModuleOptions, Spec
from reidlit.engine.reid import ReIDModule
from reidlit.labels import UNKNOWN
from reidlit.losses import WeightedSum
from reidlit.losses.attribute_bce import AttributeBCE
from reidlit.metrics import ReIDMetric, Scores
from reidlit.metrics.attribute_metric import AttributeMetric, AttributeScores
from reidlit.models.classifier import LinearClassifier
from reidlit.models.output import ReIDOutput

ATTRIBUTES = "attributes"  # checkpoint key of the attribute head and the labels
HEAD = "attribute_head."  # prefix of the tensors of the head


class JointScores(Scores):
    """Retrieval and attribute scores of a test set."""

    attributes: dict[str, float]

    @classmethod
    def of(cls, scores: Scores, attributes: AttributeScores, names: Sequence[str]) -> "JointScores":
        """Combine retrieval scores and attribute scores."""
        joint = cls(*scores)
        joint.attributes = attributes.as_dict() | attributes.by_attribute(names)
        return joint

    def as_dict(self) -> dict[str, float]:
        """Return the retrieval metrics, the attribute metrics and the metrics of each attribute by name."""
        return super().as_dict() | self.attributes


class JointAttributeModule(ReIDModule):
    """LightningModule for joint training on identities and attributes.

    The embedding learns to distinguish identities and, with a linear attribute head, to predict attributes. The loss is
    the loss of the identities plus `weight` times the binary cross entropy of the attributes. The head takes the
    embedding as input, so stored embeddings are sufficient to predict attributes. Retrieval is evaluated as usual.
    Attributes are evaluated on the test images of the training dataset whose identities the file contains.

    The `state_dict` of a checkpoint contains only the model, so that `ReIDModule` can load it. The head and the labels
    of all identities have their own entry, so that a test does not need the file.

    Source: Lin et al., "Improving Person Re-identification by Attribute and Identity Learning", Pattern Recognition
    2019.

    Args:
        model: Spec of the model.
        pids: Training identities.
        attributes_file: File for `read_identity_attributes`; required for training, not for loading a checkpoint.
        weight: Weight of the attribute loss, above 0.
        weighting: Weighting of the attribute labels; see `AttributeBCE`. Ratios count each training identity once.
        threshold: Probability from which an attribute counts as predicted in the scores, above 0 and below 1.
        attributes: Names of the attributes of a checkpoint.
        options: Other arguments of `ReIDModule`. The `optimizer` applies to the model and the head.

    Raises:
        FileNotFoundError: If attributes_file does not exist.
        ValueError: If there is neither a file nor a checkpoint, the file contains none of the training identities, or a
            number is out of range; when training starts, if the dataset combines several and renumbers their
            identities.
    """

    def __init__(
        self,
        model: Spec,
        pids: Sequence[int],
        attributes_file: str | None = None,
        weight: float = 1.0,
        weighting: str | None = None,
        threshold: float = 0.5,
        attributes: Sequence[str] | None = None,
        **options: Unpack[ModuleOptions],
    ) -> None:
        super().__init__(model, pids, **options)
        if not weight > 0:
            raise ValueError(
                f"engine.weight={weight} is invalid: must be above 0. Use engine=default to train without attributes."
            )
        self.weight, self.dataset = weight, None
        self.rows: dict[int, int] = {}
        self.labels: Tensor
        self.class_rows: Tensor
        for name in ("labels", "class_rows"):  # buffers move with the model, but are not part of its weights
            self.register_buffer(name, torch.empty(0), persistent=False)
        if attributes is None:
            if attributes_file is None:
                raise ValueError(
                    "engine.attributes_file=null is invalid: pass the attributes of the identities, such as "
                    "market_attribute.mat, or a CSV file with a column pid and a column of 0 and 1 per attribute."
                )
            names, labels = read_identity_attributes(attributes_file)
            self.hparams["attributes"] = attributes = names
            self._register_labels(list(labels), torch.tensor(list(labels.values()), dtype=torch.int8))
            self._check_coverage(attributes_file)
        self._attribute_metric()
        self.attribute_head = LinearClassifier(self.model.embedding_size, len(attributes))
        self.attribute_metrics: dict[str | None, AttributeMetric] = {}

    def attribute_probabilities(self, image: Tensor, camid: Tensor | None = None) -> Tensor:
        """Predict attributes.

        Args:
            image: (B, 3, H, W) images, uint8 or normalized.
            camid: (B,) cameras, for camera-aware models.

        Returns:
            (B, A) probabilities.
        """
        probabilities: Tensor = self.attribute_head(self(image, camid)).float().sigmoid()
        return probabilities

    def on_fit_start(self) -> None:
        """Record the name of the dataset, as the labels are valid for its test set only.

        Raises:
            ValueError: If the dataset combines several, and so renumbers their identities.
        """
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            return
        if datamodule.sources != [datamodule]:
            raise ValueError(
                f"data={datamodule.name} renumbers the identities of several datasets, so they do not match "
                f"engine.attributes_file={self.hparams['attributes_file']}. Train on a single dataset."
            )
        self.dataset = datamodule.name

    def losses_of(self, output: ReIDOutput, batch: Batch, loss: WeightedSum | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the losses as `ReIDModule` does, with the loss of the attributes as `attributes`."""
        total, terms = super().losses_of(output, batch, loss)
        attribute_output = output._replace(logits=(self.attribute_head(output.embedding),))
        attribute_loss = self.attribute_loss(attribute_output, self.labels[self.class_rows[batch["pid"]]])
        return total + self.weight * attribute_loss, {**terms, "attributes": attribute_loss}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the head and the labels in their own entry, so that the `state_dict` contains only the model."""
        super().on_save_checkpoint(checkpoint)
        weights = checkpoint["state_dict"]
        checkpoint[ATTRIBUTES] = {
            "head": {name: weights.pop(name) for name in list(weights) if name.startswith(HEAD)},
            "pids": list(self.rows),
            "labels": self.labels[:-1].cpu(),
            "dataset": self.dataset,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the head and the labels.

        Raises:
            ValueError: If the checkpoint does not contain them, or has other attributes.
        """
        if ATTRIBUTES not in checkpoint:
            raise ValueError(
                "The checkpoint contains no attributes: it was not trained with engine=joint_attributes. Omit "
                "engine=joint_attributes to test it, or start a new run from it with weights=<the same file>."
            )
        saved, current = list(checkpoint["hyper_parameters"]["attributes"]), list(self.hparams["attributes"])
        if saved != current:
            raise ValueError(
                f"The checkpoint has the attributes {saved}, but "
                f"engine.attributes_file={self.hparams['attributes_file']} has {current}."
            )
        entry = checkpoint[ATTRIBUTES]
        checkpoint["state_dict"].update(entry["head"])
        self._register_labels(entry["pids"], entry["labels"])
        self.dataset = entry["dataset"]

    def _register_labels(self, pids: Sequence[int], labels: Tensor) -> None:
        """Set the (P, A) labels of P identities, with an additional row of unknown labels for all other identities."""
        self.rows = {int(pid): row for row, pid in enumerate(pids)}
        unknown = torch.full((1, labels.shape[1]), UNKNOWN, dtype=torch.int8)
        self.labels = torch.cat([labels.cpu(), unknown]).to(self.device)
        self.class_rows = self._rows_of(self.hparams["pids"])
        training_labels = self.labels[self.class_rows]
        num_known = (training_labels >= 0).sum(0).clamp(min=1)
        ratios = ((training_labels > 0).sum(0) / num_known).tolist()
        self.attribute_loss = AttributeBCE(self.hparams["weighting"], ratios).to(self.device)

    def _rows_of(self, pids: Sequence[int]) -> Tensor:
        return torch.tensor([self.rows.get(pid, len(self.rows)) for pid in pids], device=self.device)

    def _check_coverage(self, file: str | Path) -> None:
        pids = self.hparams["pids"]
        missing = sum(pid not in self.rows for pid in pids)
        if missing == len(pids):
            raise ValueError(
                f"engine.attributes_file={file} contains none of the {len(pids)} training identities (for example "
                f"{pids[0]}). Its pid values must be those of the dataset."
            )
        if missing:
            rank_zero_warn(
                f"engine.attributes_file={file} does not contain {missing} of {len(pids)} training identities. They "
                "are trained without attributes."
            )

    def _optimizer(self) -> Optimizer:
        optimizer = super()._optimizer()
        optimizer.add_param_group({"params": list(self.attribute_head.parameters())})
        return optimizer

    def _attribute_metric(self) -> AttributeMetric:
        return AttributeMetric(len(self.hparams["attributes"]), self.hparams["threshold"])

    def on_validation_epoch_start(self) -> None:
        """Create empty metrics for retrieval and attributes."""
        super().on_validation_epoch_start()
        self.attribute_metrics[None] = self._attribute_metric().to(self.device)

    def on_test_epoch_start(self) -> None:
        """Create empty metrics for each test set, with attributes if the labels are valid for it."""
        super().on_test_epoch_start()
        for name in self._test_names():
            self.attribute_metrics.pop(name, None)
            if self.dataset in (None, name):
                self.attribute_metrics[name] = self._attribute_metric().to(self.device)

    def update_metric(self, metric: ReIDMetric, batch: Batch, dataset: str | None) -> None:
        """Embed a batch and predict its attributes; see `NetworkModule`."""
        super().update_metric(metric, batch, dataset)
        if dataset in self.attribute_metrics:
            embedding = metric.embedding[-1]  # of this batch
            labels = self.labels[self._rows_of(batch["pid"].tolist())]
            self.attribute_metrics[dataset].update(self.attribute_head(embedding).float().sigmoid(), labels)

    def scores(self, dataset: str | None) -> Scores:
        """Return the retrieval scores, with attribute scores if there are known labels; see `NetworkModule`."""
        scores = super().scores(dataset)
        if dataset not in self.attribute_metrics:
            return scores
        attributes: AttributeScores = self.attribute_metrics[dataset].compute()
        if not attributes.num_images:
            return scores
        return JointScores.of(scores, attributes, self.hparams["attributes"])
