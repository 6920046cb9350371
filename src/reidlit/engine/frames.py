"""Training on the frames of clips instead of on clips."""

import torch
from torch import Tensor

from reidlit.data.sample import Batch
from reidlit.engine.base import Spec
from reidlit.engine.reid import ReIDModule
from reidlit.models.model import ReIDModel
from reidlit.models.output import ReIDOutput


class FramesModule(ReIDModule):
    """Trains on each frame of a clip as on an image, and evaluates tracklets by pooling the embeddings of their frames.

    Losses that compare images would find the nearest relative of a frame in its own clip and learn nothing from it. So
    they see S rounds, each with one frame of each clip, drawn by chance and each frame once: two frames of one clip never
    meet. The loss is the mean over the rounds; for losses of single images, that is the mean over all frames.

    The arguments are those of `ReIDModule`; the model's pooling over time must be one after the neck that has nothing to
    learn.

    Raises:
        ValueError: if it is another.
    """

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step over all frames; logs as `ReIDModule`.

        Raises:
            ValueError: if the batch holds images.
        """
        if batch["image"].ndim == 4:
            raise ValueError("engine=frames is for tracklets: these data are images, which engine=default is for.")
        size, length = batch["image"].shape[:2]
        every = batch.copy()
        every["pid"] = batch["pid"].repeat_interleave(length)
        every["camid"] = batch["camid"].repeat_interleave(length)
        output: ReIDOutput = self.model(batch["image"].flatten(0, 1), every["camid"])
        order = torch.rand(size, length, device=self.device).argsort(1)
        rounds = [
            self.losses_of(
                _chosen(output, order[:, number] + torch.arange(size, device=self.device) * length), batch, self.loss
            )
            for number in range(length)
        ]
        total = torch.stack([total for total, _ in rounds]).mean()
        each = {name: torch.stack([terms[name] for _, terms in rounds]).mean() for name in rounds[0][1]}
        self.log_step("train", output, every, total, each)
        return {"loss": total, "features": output.features[0].detach().reshape(size, length, -1).mean(1)}

    def _network(self, spec: Spec) -> ReIDModel:
        network = super()._network(spec)
        if not network.temporal.after_neck or list(network.temporal.parameters()):
            raise ValueError(
                f"model/temporal is {type(network.temporal).__name__}, which learns from clips or pools before the neck, but "
                "engine=frames trains on single frames: give model/temporal=frame_average or frame_max, or leave engine=frames out."
            )
        return network


def _chosen(output: ReIDOutput, rows: Tensor) -> ReIDOutput:
    """Those rows of a model's output."""
    return ReIDOutput(
        output.embedding[rows],
        tuple(feature[rows] for feature in output.features),
        tuple(logits[rows] for logits in output.logits),
    )
