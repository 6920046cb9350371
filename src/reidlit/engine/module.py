"""The pairing of a model and its losses as a LightningModule."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from reidlit.data.sample import Batch
from reidlit.engine.gather import gather as gathered
from reidlit.engine.optim import build_optimizer
from reidlit.engine.schedules import build_scheduler
from reidlit.losses import WeightedSum
from reidlit.metrics import ReIDMetric, Scores
from reidlit.models.model import ReIDModel
from reidlit.models.output import ReIDOutput
from reidlit.models.tracklets import embed_tracklets
from reidlit.models.weights import load_weights
from reidlit.spec import accepts, build

Spec = Mapping[str, Any]


class ReIDModule(pl.LightningModule):
    """Trains and evaluates a `ReIDModel`.

    Its arguments are plain values and dicts that name what to build, so that a checkpoint is weights and the dict that
    builds them: `ReIDModule.load_from_checkpoint(path)` needs nothing else.

    Args:
        model: spec of the model; is given `num_classes`.
        pids: the training identities; a class label is the position in this list.
        loss: `losses`, a spec each by name, `weights`, a number each, and `starts`, the epoch from which each counts; needed
            for training only, as the next two.
        optimizer: spec for `build_optimizer`.
        scheduler: spec for `build_scheduler`.
        image_size: height and width of the images that the model is for, in pixels.
        evaluation: the options of `reidlit.evaluate`, `postprocess` as a list of specs; and `flip`, whether to average
            the embeddings of an image and of its mirror image.
        channels_last: whether to keep feature maps with channels last in memory, which convolutions prefer.
        compile_model: whether to compile the model with `torch.compile`; needs a C++ compiler on the machine.
        gather: whether losses that compare images see those of all devices, so that a batch on eight is a batch on one.
    """

    def __init__(
        self,
        model: Spec,
        pids: Sequence[int],
        loss: Spec | None = None,
        optimizer: Spec | None = None,
        scheduler: Spec | None = None,
        image_size: Sequence[int] = (256, 128),
        evaluation: Spec | None = None,
        channels_last: bool = True,
        compile_model: bool = False,
        gather: bool = True,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)  # the task logs the whole configuration
        self._metric()  # a mistake here must not wait until the training is over
        self.model = self._network(model)
        self.loss = self._losses(self.model)
        self.gather = gather
        self.metrics: dict[str, ReIDMetric] = {}
        self.scores: dict[str, Scores] = {}

    @property
    def networks(self) -> list[ReIDModel]:
        """All networks that are trained; `model`, which is evaluated and deployed, comes first."""
        return [self.model]

    def forward(self, image: Tensor, camid: Tensor | None = None, frames: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) images, uint8 or normalised, and for some models cameras (B,) -> (B, D) embeddings.

        Clips are (B, S, 3, H, W), and `frames` (B, S) tells which of their frames are real.
        """
        return self.model.embed(image, camid, frames)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step; logs the loss, each of its terms and the accuracy. Callbacks get the first branch's features too."""
        output: ReIDOutput = self.model(batch["image"], batch["camid"], batch.get("frames"))
        total, each = self.losses_of(output, batch, self.loss)
        self.log_step("train", output, batch, total, each)
        return {"loss": total, "features": output.features[0].detach()}

    def losses_of(self, output: ReIDOutput, batch: Batch, loss: WeightedSum | None) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimised for one network, and the terms that it is made of.

        Raises:
            ValueError: if there is no loss.
        """
        if loss is None:
            raise ValueError("loss=None: a module that is built without losses can be tested, not trained.")
        everyone = gathered(output, batch["pid"]) if self.gather else None
        total: Tensor
        total, each = loss(output, batch["pid"], everyone, self.current_epoch)
        return total, each

    def log_step(
        self, prefix: str, output: ReIDOutput, batch: Batch, total: Tensor, each: Mapping[str, Tensor]
    ) -> None:
        """Log the loss, its terms if there are several, and the accuracy, of one network in a step."""
        size, shown = len(batch["pid"]), prefix == "train"
        self.log(f"{prefix}/loss", total.detach(), prog_bar=shown, batch_size=size)
        if len(each) > 1:
            self.log_dict({f"{prefix}/{name}": value.detach() for name, value in each.items()}, batch_size=size)
        accuracy = (output.logits[0].detach().argmax(1) == batch["pid"]).float().mean()
        self.log(f"{prefix}/accuracy", accuracy, prog_bar=shown, batch_size=size)

    def start_from(self, path: str | Path) -> str:
        """Load a weight file into the network before it is trained, and say what became of it.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no weight file, or nothing of the backbone fits.
        """
        return str(load_weights(self.model, path))

    def on_validation_epoch_start(self) -> None:
        """Start counting anew."""
        self._start(["val"], verification=False, camera_pairs=False, top_k=0)  # not read every epoch

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Embed a batch of the held-out identities."""
        self._embed("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log `val/mAP` and the ranks."""
        self._finish("val", "val")

    def on_test_epoch_start(self) -> None:
        """Start counting anew, for each test set."""
        self._start(self._test_names())

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Embed a batch of a test set."""
        self._embed(self._test_names()[dataloader_idx], batch)

    def on_test_epoch_end(self) -> None:
        """Log `test/<dataset>/mAP` and the ranks of each test set."""
        for name in self._test_names():
            self._finish(name, f"test/{name}")

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
        network: ReIDModel = build({**spec, **size}, num_classes=len(self.hparams["pids"]))
        if self.hparams["channels_last"]:
            network.to(memory_format=torch.channels_last)
        if self.hparams["compile_model"]:
            network.compile()
        return network

    def _losses(self, network: ReIDModel) -> WeightedSum | None:
        loss = self.hparams["loss"]
        if loss is None:
            return None
        sizes = {"num_classes": len(self.hparams["pids"]), "feature_sizes": network.feature_sizes}
        terms = {name: build(spec, **accepts(spec, sizes)) for name, spec in loss["losses"].items()}
        return WeightedSum(terms, loss.get("weights"), loss.get("starts"))

    def _steps_per_epoch(self) -> float:
        """Of the optimiser; infinite before the loaders are made, which must not happen earlier on their account."""
        batches, accumulated = self.trainer.num_training_batches, self.trainer.accumulate_grad_batches
        return -(-batches // accumulated) if math.isfinite(batches) else math.inf

    def _test_names(self) -> list[str]:
        return list(self.trainer.test_dataloaders or {})

    def _metric(self, **instead: Any) -> ReIDMetric:
        options = {**(self.hparams["evaluation"] or {}), **instead}
        options.pop("flip", None)
        options["postprocess"] = [build(step) for step in options.get("postprocess", ())]
        return ReIDMetric(**options)

    def _start(self, names: Sequence[str], **instead: Any) -> None:
        self.metrics = {name: self._metric(**instead).to(self.device) for name in names}

    def _embed(self, name: str, batch: Batch) -> None:
        embedding = self._embedding(batch, batch["image"])
        if (self.hparams["evaluation"] or {}).get("flip"):
            embedding = (embedding + self._embedding(batch, batch["image"].flip(-1))) / 2
        self.metrics[name].update(embedding, batch["pid"], batch["camid"], batch["index"], batch["query"])

    def _embedding(self, batch: Batch, image: Tensor) -> Tensor:
        """(B, D) of the images, or of the tracklets, of a batch."""
        if "tracklet" not in batch:
            embedding: Tensor = self(image, batch["camid"])
            return embedding
        return embed_tracklets(self, image, batch["frames"], batch["tracklet"], batch["camid"])

    def _finish(self, name: str, prefix: str) -> None:
        scores = self.metrics[name].compute()
        self.scores[prefix] = scores
        logged = {f"{prefix}/{key}": value for key, value in scores.as_dict().items() if not key.startswith("num_")}
        self.log_dict(logged, rank_zero_only=True)


def without_fetching(model: Spec) -> dict[str, Any]:
    """A model's spec without the ImageNet weights that it may have started from."""
    return {**model, "pretrained": False} if "pretrained" in model else dict(model)
