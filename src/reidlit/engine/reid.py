"""Training and evaluation of a person re-identification model."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from reidlit.data.attribute_data import AttributeDataModule
from reidlit.data.datamodule import ReIDDataModule
from reidlit.data.sample import Batch
from reidlit.engine.base import NetworkModule, Resumed, Spec
from reidlit.engine.distributed import gather
from reidlit.losses import WeightedSum
from reidlit.metrics import ReIDMetric, Scores
from reidlit.models.output import ReIDOutput
from reidlit.models.tracklet_embedding import embed_tracklets
from reidlit.runs.metric_values import protocol_line, retrieval_metrics
from reidlit.runs.result import Stage, TestResult
from reidlit.spec import build

NOT_VALIDATED = {"verification": False, "camera_pairs": False, "top_k": 0}  # too slow to compute every epoch


class ReIDModule(NetworkModule[ReIDMetric, Batch]):
    """LightningModule that trains and evaluates a `ReIDModel`.

    The arguments are plain values and specs, dicts that describe an object to build. Checkpoints contain them, so
    `ReIDModule.load_from_checkpoint(path)` needs no other arguments.

    Args:
        model: Spec of the model, built with `num_classes` set to the number of identities.
        pids: Training identities. The class label of an identity is its position in this sequence.
        loss: Specs of the losses by name (`losses`), their weights (`weights`) and the first epoch of each (`starts`);
            see `WeightedSum`. Required for training only, like `optimizer` and `scheduler`.
        optimizer: Spec for `build_optimizer`.
        scheduler: Spec for `build_scheduler`.
        image_size: Height and width of the input images in pixels.
        evaluation: Options of `reidlit.evaluate`, with specs in `postprocess`. An additional option `flip` averages the
            embeddings of an image and its mirror image.
        channels_last: Whether to store feature maps with channels last, which is faster for convolutions.
        compile_model: Whether to compile the model with `torch.compile`, which requires a C++ compiler.
        gather: Whether losses that compare images see the batch of all devices, which makes training on several devices
            equivalent to one device with the complete batch.

    Raises:
        ValueError: If a spec or an option of the evaluation is invalid.

    Example:
        >>> import torch
        >>> from reidlit import ReIDModule
        >>> module = ReIDModule.load_from_checkpoint("last.ckpt", map_location="cpu").eval()
        >>> height, width = module.hparams["image_size"]
        >>> image = torch.zeros(4, 3, height, width, dtype=torch.uint8)
        >>> with torch.inference_mode():
        ...     embedding = module(image)
        >>> embedding.shape == (4, module.model.embedding_size)
        True
    """

    resumed_with: ClassVar[tuple[Resumed, ...]] = (
        *NetworkModule.resumed_with,
        Resumed("pids", "other identities", "data= and seed="),
    )

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
        self.save_hyperparameters(logger=False)  # the command logs the whole configuration
        self.build_metric("test")  # invalid options must fail now, not after training
        self.build_network()
        self.gather = gather

    @classmethod
    def data_options(cls, datamodule: ReIDDataModule, evaluation: Spec) -> dict[str, Any]:
        """Return the training identities and the evaluation; see `NetworkModule`."""
        return {"pids": datamodule.pids, "evaluation": evaluation}

    @classmethod
    def check_data(cls, datamodule: ReIDDataModule) -> None:
        """Check that the dataset has identities; see `NetworkModule`."""
        if isinstance(datamodule, AttributeDataModule):
            raise ValueError(f"data={datamodule.name} has no identities, only attributes. Add engine=attributes.")

    @property
    def num_classes(self) -> int:
        """Number of identities that the classifier distinguishes."""
        return len(self.hparams["pids"])

    @property
    def evaluation(self) -> Spec:
        """Options of the evaluation."""
        return self.hparams["evaluation"] or {}

    def forward(self, image: Tensor, camid: Tensor | None = None, frame_mask: Tensor | None = None) -> Tensor:
        """Embed images or clips.

        Args:
            image: (B, 3, H, W) images or (B, S, 3, H, W) clips, uint8 or normalized.
            camid: (B,) cameras, for camera-aware models.
            frame_mask: (B, S) frame mask of clips, True for real frames.

        Returns:
            (B, D) embeddings.
        """
        return self.model.embed(image, camid, frame_mask)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute the loss; log it, each of its terms and the accuracy.

        Returns:
            `loss`, and `features` (B, D) of the first branch, which callbacks monitor.
        """
        output: ReIDOutput = self.model(batch["image"], batch["camid"], batch.get("frame_mask"))
        total, terms = self.losses_of(output, batch, self.loss)
        self.log_step("train", output, batch, total, terms)
        return {"loss": total, "features": output.features[0].detach()}

    def losses_of(self, output: ReIDOutput, batch: Batch, loss: WeightedSum | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one network, and its terms by name.

        Args:
            output: Model output of the batch.
            batch: Batch of this device.
            loss: Losses of the network.

        Raises:
            ValueError: If `loss` is None.
        """
        gathered = gather(output, batch["pid"]) if self.gather else None
        total: Tensor
        total, terms = self.required_loss(loss)(output, batch["pid"], gathered, self.current_epoch)
        return total, terms

    def log_step(
        self, prefix: str, output: ReIDOutput, batch: Batch, total: Tensor, terms: Mapping[str, Tensor]
    ) -> None:
        """Log the loss of one network, its terms if there are several, and the accuracy."""
        size = len(batch["pid"])
        self.log_losses(total, terms, size, prefix)
        accuracy = (output.logits[0].detach().argmax(1) == batch["pid"]).float().mean()
        self.log(f"{prefix}/accuracy", accuracy, prog_bar=prefix == "train", batch_size=size)

    def build_metric(self, stage: Stage) -> ReIDMetric:
        """Build the metric with the options of the evaluation; see `NetworkModule`."""
        options = {**self.evaluation, **(NOT_VALIDATED if stage == "val" else {})}
        options.pop("flip", None)
        options["postprocess"] = [build(step) for step in options.get("postprocess", ())]
        return ReIDMetric(**options)

    def update_metric(self, metric: ReIDMetric, batch: Batch, dataset: str | None) -> None:
        """Embed a batch, with `flip` averaged with its mirror image; see `NetworkModule`."""
        embedding = self._embedding(batch, batch["image"])
        if self.evaluation.get("flip"):
            embedding = (embedding + self._embedding(batch, batch["image"].flip(-1))) / 2
        metric.update(embedding, batch["pid"], batch["camid"], batch["index"], batch["query"])

    def scores(self, dataset: str | None) -> Scores:
        """Return the scores of a test set, or of the last validation; see `NetworkModule`."""
        scores: Scores = self.metrics[dataset].compute()
        return scores

    def result(self, dataset: str, item_name: str = "images", stage: Stage = "test") -> TestResult:
        """Return all metrics of a test set with the protocol; see `NetworkModule`."""
        protocol = protocol_line(self.evaluation, self.hparams["image_size"], self.model.uses_cameras, item_name)
        return TestResult(stage, dataset, retrieval_metrics(self.scores(dataset), protocol))

    def _embedding(self, batch: Batch, image: Tensor) -> Tensor:
        """Return the (B, D) embeddings of the images or tracklets of a batch."""
        if "tracklet" not in batch:
            embedding: Tensor = self(image, batch["camid"])
            return embedding
        return embed_tracklets(self, image, batch["frame_mask"], batch["tracklet"], batch["camid"])
