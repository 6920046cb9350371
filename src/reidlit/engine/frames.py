"""Training on single frames of clips."""

import torch
from torch import Tensor

from reidlit.data.sample import Batch
from reidlit.engine.base import Spec
from reidlit.engine.reid import ReIDModule
from reidlit.models.model import ReIDModel
from reidlit.models.output import ReIDOutput


class FramesModule(ReIDModule):
    """LightningModule that trains on single frames of clips.

    Each frame is an image in training. In evaluation, the embedding of a tracklet pools the embeddings of its frames.

    The frames of a clip are nearly identical, so a loss that compares images would learn little from comparing them.
    The losses are therefore computed in S rounds. Each round has one random frame of every clip, and each frame is used
    once. The total is the mean over rounds. For losses on single images, that is the mean over all frames.

    The arguments are those of `ReIDModule`. The temporal pooling of the model must follow the neck and have no
    parameters.

    Raises:
        ValueError: If the model has another temporal pooling.
    """

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute the loss of all frames; log as `ReIDModule` does.

        Raises:
            ValueError: If the batch contains images instead of clips.
        """
        if batch["image"].ndim == 4:
            raise ValueError("engine=frames requires tracklets, but the dataset has images. Use engine=default.")
        size, length = batch["image"].shape[:2]
        frames = batch.copy()
        frames["pid"] = batch["pid"].repeat_interleave(length)
        frames["camid"] = batch["camid"].repeat_interleave(length)
        output: ReIDOutput = self.model(batch["image"].flatten(0, 1), frames["camid"])
        order = torch.rand(size, length, device=self.device).argsort(1)
        first = torch.arange(size, device=self.device) * length
        rounds = [
            self.losses_of(_select(output, first + order[:, number]), batch, self.loss) for number in range(length)
        ]
        total = torch.stack([total for total, _ in rounds]).mean()
        mean_terms = {name: torch.stack([terms[name] for _, terms in rounds]).mean() for name in rounds[0][1]}
        self.log_step("train", output, frames, total, mean_terms)
        return {"loss": total, "features": output.features[0].detach().reshape(size, length, -1).mean(1)}

    def _network(self, spec: Spec) -> ReIDModel:
        network = super()._network(spec)
        if not network.temporal.after_neck or list(network.temporal.parameters()):
            raise ValueError(
                f"engine=frames trains on single frames, but model/temporal is {type(network.temporal).__name__}, "
                "which pools before the neck or has parameters. Use model/temporal=frame_average or frame_max, or "
                "omit engine=frames."
            )
        return network


def _select(output: ReIDOutput, rows: Tensor) -> ReIDOutput:
    """Return the given rows of a model output."""
    return ReIDOutput(
        output.embedding[rows],
        tuple(feature[rows] for feature in output.features),
        tuple(logits[rows] for logits in output.logits),
    )
