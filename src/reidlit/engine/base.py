"""The base class of all LightningModules: building from plain dicts, optimization and evaluation."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeAlias, TypedDict, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import Metric

from reidlit.data.datamodule import ReIDDataModule
from reidlit.data.sample import Batch
from reidlit.engine.optim import build_optimizer
from reidlit.engine.schedules import build_scheduler
from reidlit.foreign_files import reading
from reidlit.inference.loading import saved_size
from reidlit.losses import WeightedSum
from reidlit.models.model import ReIDModel
from reidlit.models.weights import load_weights, read_checkpoint, settings_of, tensors_of
from reidlit.runs.metric_values import finite
from reidlit.runs.result import Stage, TestResult, metric_name
from reidlit.spec import accepts, build, check_saved

Spec = Mapping[str, Any]
MetricT = TypeVar("MetricT", bound=Metric)
BatchT = TypeVar("BatchT", bound=Batch)


class ModuleOptions(TypedDict, total=False):
    """Constructor arguments shared by all training procedures on identities; see `ReIDModule`."""

    loss: Spec | None
    optimizer: Spec | None
    scheduler: Spec | None
    image_size: Sequence[int]
    evaluation: Spec | None
    channels_last: bool
    compile_model: bool
    gather: bool


class Resumed(NamedTuple):
    """A hyperparameter that must not change when a checkpoint is resumed.

    Attributes:
        name: Name of the hyperparameter.
        difference: Description of a changed value, such as "another model".
        settings: Settings that determine the value, for messages.
    """

    name: str
    difference: str
    settings: str


class AnyScores(Protocol):
    """Scores of one evaluation, of retrieval or of attributes."""

    def as_dict(self) -> dict[str, float]:
        """Return the scalar metrics by name."""


class NetworkModule(pl.LightningModule, Generic[MetricT, BatchT]):
    """Base class of all LightningModules.

    It builds the model, its losses, the optimizer and the schedule from plain dicts, and evaluates each test set with
    its own metric. A subclass saves its hyperparameters, with `model`, `loss`, `optimizer`, `scheduler`, `image_size`,
    `channels_last` and `compile_model` among them, calls `build_network`, and implements `training_step`,
    `build_metric` and `update_metric`.

    Attributes:
        model: The network that is evaluated and deployed.
        loss: Losses of the model; None for a module that is only tested.
        metrics: Metric of each test set by its name, and of the validation set under None. After an evaluation their
            `compute` returns the cached scores; see `scores`.
        run_settings: Settings of the run by dotted name, such as `data.batch_size`, which a checkpoint records; empty
            unless a command sets them.
    """

    # Hyperparameters that must not change when a checkpoint is resumed.
    resumed_with: ClassVar[tuple[Resumed, ...]] = (Resumed("model", "another model", "model="),)
    # Validation metrics that a checkpoint can be selected by; None if a subclass may log others.
    validated: ClassVar[tuple[str, ...] | None] = None

    model: ReIDModel
    loss: WeightedSum | None

    def __init__(self) -> None:
        super().__init__()
        self.metrics: dict[str | None, MetricT] = {}
        self.run_settings: dict[str, Any] = {}

    # Construction

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **changes: Any) -> Self:
        """Load a checkpoint as Lightning does, after checking that it only builds trusted objects.

        Args:
            checkpoint_path: Checkpoint file.
            args: Other positional arguments of Lightning's `load_from_checkpoint`.
            changes: Its keyword arguments. Hyperparameters among them override those of the file.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If it cannot be read, or contains specs that are not trusted; see `reidlit.spec.check_saved`.
        """
        content = read_checkpoint(checkpoint_path)
        tensors_of(content, checkpoint_path)  # refuses tensors that cannot be weights
        content = settings_of(content, checkpoint_path)
        saved = content.get("hyper_parameters")
        if isinstance(saved, Mapping):
            saved = {key: value for key, value in saved.items() if key not in changes}
        check_saved({**content, "hyper_parameters": saved}, checkpoint_path)
        with reading(checkpoint_path, "Use a checkpoint that reidlit train has written."):
            module = super().load_from_checkpoint(checkpoint_path, *args, **changes)
            saved_size(module.hparams)
        return module

    @classmethod
    @abstractmethod
    def data_options(cls, datamodule: ReIDDataModule, evaluation: Spec) -> dict[str, Any]:
        """Return the constructor arguments that depend on the dataset and its evaluation.

        Args:
            datamodule: Data module, set up for training.
            evaluation: Options of the retrieval evaluation.

        Raises:
            ValueError: If the dataset does not have the required labels.
        """

    @classmethod
    @abstractmethod
    def check_data(cls, datamodule: ReIDDataModule) -> None:
        """Check that a dataset has the labels that this module learns from.

        Raises:
            ValueError: If it does not.
        """

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Number of logits of the model."""

    @property
    def networks(self) -> list[ReIDModel]:
        """All trained networks. The first is `model`, which is evaluated and deployed."""
        return [self.model]

    def build_network(self, **loss_arguments: Any) -> None:
        """Build the model and its losses. Each loss receives the `loss_arguments` that its constructor accepts."""
        self.model = self._network(self.hparams["model"])
        self.loss = self._losses(self.model, **loss_arguments)

    def start_from(self, path: str | Path) -> str:
        """Load a weight file into the network before training, and return a report of what was loaded.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If it is not a weight file, or no weights of the backbone fit.
        """
        return str(load_weights(self.model, path))

    def load_selected(self, path: Path) -> TestResult | None:
        """Load the checkpoint that was selected on the validation set, for the test after training.

        Returns:
            Validation scores of the checkpoint. The default implementation loads nothing and returns None, so that the
            last weights are tested.
        """
        return None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record the settings of the run, and a model without pretrained weights.

        Loading a checkpoint must not download weights that it replaces.
        """
        saved = checkpoint["hyper_parameters"]
        checkpoint["hyper_parameters"] = {**saved, "model": without_pretraining(saved["model"])}
        if self.run_settings:
            checkpoint["run_settings"] = self.run_settings

    # Optimization

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer of the model and its losses, and the learning-rate schedule."""
        optimizer = self._optimizer()
        spec = self.hparams["scheduler"]
        scheduler = build_scheduler(optimizer, spec, self._steps_per_epoch)
        interval = spec.get("interval", "epoch")
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    def on_train_start(self) -> None:
        """Set the learning rates that the schedule has now.

        A checkpoint restores the rates of the schedule that wrote it. The schedule of a run that is resumed for more epochs
        differs, and would otherwise take effect one epoch late.
        """
        for config in self.trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            if isinstance(scheduler, LambdaLR):
                factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
                for group, rate, factor in zip(
                    scheduler.optimizer.param_groups, scheduler.base_lrs, factors, strict=True
                ):
                    group["lr"] = rate * factor

    def log_losses(self, total: Tensor, terms: Mapping[str, Tensor], batch_size: int, prefix: str = "train") -> None:
        """Log the loss of a step, and its terms if there are several."""
        self.log(f"{prefix}/loss", total.detach(), prog_bar=prefix == "train", batch_size=batch_size)
        if len(terms) > 1:
            logged = {f"{prefix}/{name}": value.detach() for name, value in terms.items()}
            self.log_dict(logged, batch_size=batch_size)

    def required_loss(self, loss: WeightedSum | None) -> WeightedSum:
        """Return the loss if it is not None.

        Raises:
            ValueError: If the module was built without losses.
        """
        if loss is None:
            raise ValueError("loss=None: a module without losses can only be tested. Pass loss to train it.")
        return loss

    # Evaluation

    @abstractmethod
    def build_metric(self, stage: Stage) -> MetricT:
        """Build the metric of one evaluated set."""

    @abstractmethod
    def update_metric(self, metric: MetricT, batch: BatchT, dataset: str | None) -> None:
        """Add a batch of a test set, or of the validation set (`dataset=None`), to its metric."""

    @abstractmethod
    def result(self, dataset: str, item_name: str = "images", stage: Stage = "test") -> TestResult:
        """Return the result on a test set after `trainer.test`.

        Args:
            dataset: Name of the test set.
            item_name: Plural name of the samples, "images" or "tracklets".
            stage: "test", or "untrained" for a test before training.
        """

    def scores(self, dataset: str | None) -> AnyScores:
        """Return the scores of a finished test, or of the last finished validation (`dataset=None`)."""
        scores: AnyScores = self.metrics[dataset].compute()
        return scores

    def on_validation_epoch_start(self) -> None:
        """Create an empty metric."""
        self.metrics[None] = self.build_metric("val").to(self.device)

    def validation_step(self, batch: BatchT, batch_idx: int) -> None:
        """Add a batch of the validation set."""
        self.update_metric(self.metrics[None], batch, None)

    def on_validation_epoch_end(self) -> None:
        """Log `val/mAP` and the other metrics."""
        self._log_scores("val", None)

    def on_test_epoch_start(self) -> None:
        """Create an empty metric for each test set."""
        for name in self._test_names():
            self.metrics[name] = self.build_metric("test").to(self.device)

    def test_step(self, batch: BatchT, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add a batch of a test set."""
        name = self._test_names()[dataloader_idx]
        self.update_metric(self.metrics[name], batch, name)

    def on_test_epoch_end(self) -> None:
        """Log `test/<dataset>/mAP` and the other metrics of each test set."""
        for name in self._test_names():
            self._log_scores("test", name)

    def validation(self) -> TestResult | None:
        """Return the result of the last validation, if there was one."""
        return TestResult("val", None, finite(self._averages(None))) if None in self.metrics else None

    def _log_scores(self, stage: Stage, dataset: str | None) -> None:
        # Log on all ranks: each rank uses the scores, which are equal on all, to select the best checkpoint.
        scores = self._averages(dataset).items()
        self.log_dict({metric_name(stage, name, dataset): value for name, value in scores})

    def _averages(self, dataset: str | None) -> dict[str, float]:
        """Return the scores without counts and without scores of single attributes."""
        scores = self.scores(dataset).as_dict().items()
        return {name: value for name, value in scores if not name.startswith("num_") and "/" not in name}

    def _test_names(self) -> list[str]:
        """Return the names of the test sets in the order of their loaders."""
        return list(self.trainer.test_dataloaders or {})

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

    def _losses(self, network: ReIDModel, **arguments: Any) -> WeightedSum | None:
        loss = self.hparams["loss"]
        if loss is None:
            return None
        available = {"num_classes": self.num_classes, "feature_sizes": network.feature_sizes, **arguments}
        terms = {name: build(spec, **accepts(spec, available)) for name, spec in loss["losses"].items()}
        return WeightedSum(terms, loss.get("weights"), loss.get("starts"))

    def _steps_per_epoch(self) -> float:
        """Return the number of optimizer steps per epoch; infinite as long as the data loaders do not exist."""
        batches, accumulated = self.trainer.num_training_batches, self.trainer.accumulate_grad_batches
        return math.ceil(batches / accumulated) if math.isfinite(batches) else math.inf


AnyModule: TypeAlias = NetworkModule[Any, Any]


def without_pretraining(model: Spec) -> dict[str, Any]:
    """Return the spec of a model without the ImageNet weights that it may have started from."""
    return {**model, "pretrained": False} if "pretrained" in model else dict(model)
