"""Joint training: identities, and the attributes that are known of them."""

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

ATTRIBUTES = "attributes"  # in a checkpoint
HEAD = "attribute_head."  # how the names of its tensors begin


class JointScores(Scores):
    """Scores of a test set whose attributes are known too."""

    attributes: dict[str, float]

    @classmethod
    def of(cls, scores: Scores, attributes: AttributeScores, names: Sequence[str]) -> "JointScores":
        """Both together."""
        joint = cls(*scores)
        joint.attributes = attributes.as_dict() | attributes.by_attribute(names)
        return joint

    def as_dict(self) -> dict[str, float]:
        """The metrics of both, and those of each attribute."""
        return super().as_dict() | self.attributes


class JointAttributeModule(ReIDModule):
    """Trains embeddings that tell identities and, through a linear layer of their own, attributes.

    Source: Lin et al., "Improving Person Re-identification by Attribute and Identity Learning", Pattern Recognition 2019.
    The loss is that of the identities plus `weight` times the binary cross entropy of the attributes; the head reads the
    embedding, so that whoever has an embedding has its attributes. Re-identification is evaluated as usual, and attributes
    besides on those test images whose identities the file has, if they are of the dataset that was trained on.

    The weights of a checkpoint are those of the model alone, as `ReIDModule` reads them. The head and the labels of all
    identities lie beside them, so that a test needs no file.

    Args:
        model: Spec of the model.
        pids: Training identities.
        attributes_file: See `read_identity_attributes`; needed for training, not for a checkpoint.
        weight: Weight of the attributes' loss, above 0.
        weighting: See `AttributeBCE`; shares count each training identity once.
        threshold: Probability from which on an attribute counts as predicted, in scores.
        attributes: Names of the attributes of a checkpoint.
        options: See `ReIDModule`. `optimizer` applies to the model and the head.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if there is neither a file nor a checkpoint, the file has none of the training identities, or a number is
            out of range; when training starts, if the dataset numbers identities anew.
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
            raise ValueError(f"engine.weight={weight} must be above 0; without attributes there is engine=default.")
        self.weight, self.dataset = weight, None
        self.rows: dict[int, int] = {}
        self.labels: Tensor
        self.of_class: Tensor
        for name in ("labels", "of_class"):  # not among the weights, but on their device
            self.register_buffer(name, torch.empty(0), persistent=False)
        if attributes is None:
            if attributes_file is None:
                raise ValueError(
                    "engine.attributes_file=null: give the file of the identities' attributes, such as market_attribute.mat, or "
                    "a CSV with the column pid and one of 0 and 1 an attribute."
                )
            names, labels = read_identity_attributes(attributes_file)
            self.hparams["attributes"] = attributes = names
            self._know(list(labels), torch.tensor(list(labels.values()), dtype=torch.int8))
            self._check_coverage(attributes_file)
        self._attribute_metric()
        self.attribute_head = LinearClassifier(self.model.embedding_size, len(attributes))
        self.attribute_metrics: dict[str | None, AttributeMetric] = {}

    def attribute_probabilities(self, image: Tensor, camid: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) images, uint8 or normalised, and for some models cameras (B,) -> (B, A)."""
        probabilities: Tensor = self.attribute_head(self(image, camid)).float().sigmoid()
        return probabilities

    def on_fit_start(self) -> None:
        """Learn what the dataset is called, whose test set the attributes are for.

        Raises:
            ValueError: if it is made of others, which numbers identities anew.
        """
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            return
        if datamodule.sources != [datamodule]:
            raise ValueError(
                f"data={datamodule.name} numbers the identities of its sources anew, so engine.attributes_file does not fit "
                "them. Train on one dataset."
            )
        self.dataset = datamodule.name

    def losses_of(self, output: ReIDOutput, batch: Batch, loss: WeightedSum | None) -> tuple[Tensor, dict[str, Tensor]]:
        """As `ReIDModule`, and the cross entropy of the attributes as `attributes`."""
        total, each = super().losses_of(output, batch, loss)
        heads = output._replace(logits=(self.attribute_head(output.embedding),))
        term = self.attribute_loss(heads, self.labels[self.of_class[batch["pid"]]])
        return total + self.weight * term, {**each, "attributes": term}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the head and the labels beside the weights, which are then those of the model alone."""
        super().on_save_checkpoint(checkpoint)
        weights = checkpoint["state_dict"]
        checkpoint[ATTRIBUTES] = {
            "head": {name: weights.pop(name) for name in list(weights) if name.startswith(HEAD)},
            "pids": list(self.rows),
            "labels": self.labels[:-1].cpu(),
            "dataset": self.dataset,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them back.

        Raises:
            ValueError: if there are none, or they are of other attributes.
        """
        if ATTRIBUTES not in checkpoint:
            raise ValueError(
                "The checkpoint knows no attributes, so it was not trained with engine=joint_attributes. Leave that out to test "
                "it, or start a new run from it with weights=<the same file>."
            )
        then, now = list(checkpoint["hyper_parameters"]["attributes"]), list(self.hparams["attributes"])
        if then != now:
            raise ValueError(f"The checkpoint is of the attributes {then}, engine.attributes_file of {now}.")
        kept = checkpoint[ATTRIBUTES]
        checkpoint["state_dict"].update(kept["head"])
        self._know(kept["pids"], kept["labels"])
        self.dataset = kept["dataset"]

    def _know(self, pids: Sequence[int], labels: Tensor) -> None:
        """Take the labels (P, A) of identities; one more row is of those that are not known."""
        self.rows = {int(pid): row for row, pid in enumerate(pids)}
        unknown = torch.full((1, labels.shape[1]), UNKNOWN, dtype=torch.int8)
        self.labels = torch.cat([labels.cpu(), unknown]).to(self.device)
        self.of_class = self._rows_of(self.hparams["pids"])
        of_training = self.labels[self.of_class]
        known = (of_training >= 0).sum(0).clamp(min=1)
        ratios = ((of_training > 0).sum(0) / known).tolist()
        self.attribute_loss = AttributeBCE(self.hparams["weighting"], ratios).to(self.device)

    def _rows_of(self, pids: Sequence[int]) -> Tensor:
        return torch.tensor([self.rows.get(pid, len(self.rows)) for pid in pids], device=self.device)

    def _check_coverage(self, file: str | Path) -> None:
        pids = self.hparams["pids"]
        missing = sum(pid not in self.rows for pid in pids)
        if missing == len(pids):
            raise ValueError(
                f"engine.attributes_file={file} has none of the {len(pids)} training identities ({pids[0]}, for one). It must "
                "number them as the dataset does."
            )
        if missing:
            rank_zero_warn(
                f"engine.attributes_file={file} lacks {missing} of {len(pids)} training identities, which are trained on without "
                "attributes."
            )

    def _optimizer(self) -> Optimizer:
        optimizer = super()._optimizer()
        optimizer.add_param_group({"params": list(self.attribute_head.parameters())})
        return optimizer

    def _attribute_metric(self) -> AttributeMetric:
        return AttributeMetric(len(self.hparams["attributes"]), self.hparams["threshold"])

    def on_validation_epoch_start(self) -> None:
        """Start an empty metric of the attributes too."""
        super().on_validation_epoch_start()
        self.attribute_metrics[None] = self._attribute_metric().to(self.device)

    def on_test_epoch_start(self) -> None:
        """Start an empty metric of the attributes for those test sets that the labels are for."""
        super().on_test_epoch_start()
        for name in self._test_names():
            self.attribute_metrics.pop(name, None)
            if self.dataset in (None, name):
                self.attribute_metrics[name] = self._attribute_metric().to(self.device)

    def update_metric(self, metric: ReIDMetric, batch: Batch, dataset: str | None) -> None:
        """Embed a batch and predict its attributes; see `NetworkModule`."""
        super().update_metric(metric, batch, dataset)
        if dataset in self.attribute_metrics:
            embedding = metric.embedding[-1]  # what was just added
            labels = self.labels[self._rows_of(batch["pid"].tolist())]
            self.attribute_metrics[dataset].update(self.attribute_head(embedding).float().sigmoid(), labels)

    def scores(self, dataset: str | None) -> Scores:
        """Return the scores of retrieval, with those of the attributes where labels are known; see `NetworkModule`."""
        scores = super().scores(dataset)
        if dataset not in self.attribute_metrics:
            return scores
        attributes: AttributeScores = self.attribute_metrics[dataset].compute()
        if not attributes.num_images:
            return scores
        return JointScores.of(scores, attributes, self.hparams["attributes"])
