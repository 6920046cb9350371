"""The pairing of a model and its losses as a LightningModule."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from reidlit.data.sample import Batch
from reidlit.engine.base import NetworkModule, Spec
from reidlit.engine.distributed import gather as gathered
from reidlit.losses import WeightedSum
from reidlit.metrics import ReIDMetric, Scores
from reidlit.models.output import ReIDOutput
from reidlit.models.tracklet_embedding import embed_tracklets
from reidlit.spec import build


class ReIDModule(NetworkModule):
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
        self.build_network()
        self.gather = gather
        self.metrics: dict[str, ReIDMetric] = {}
        self.scores: dict[str, Scores] = {}

    @property
    def num_classes(self) -> int:
        """How many identities the classifier tells apart."""
        return len(self.hparams["pids"])

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
