"""Deep mutual learning: several networks learn from labels and from each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Unpack, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from reidlit.data.sample import Batch
from reidlit.engine.base import ModuleOptions, Resumed, Spec, without_pretraining
from reidlit.engine.optim import build_optimizer
from reidlit.engine.reid import ReIDModule
from reidlit.losses import WeightedSum
from reidlit.losses.distillation import SoftTargets, softmax_logits
from reidlit.models.model import ReIDModel
from reidlit.models.output import ReIDOutput
from reidlit.models.weights import load_weights

PEERS = "peers"  # checkpoint key of the peers' tensors
PEER_PREFIXES = ("peers.", "peer_losses.")  # prefixes of the names of these tensors


class MutualModule(ReIDModule):
    """LightningModule for deep mutual learning: `model` and peer networks also learn from each other's predictions.

    The loss of each network is its loss on the labels, plus `weight` times the mean over all other networks of KL(other
    || network). The predictions of the other networks get no gradient. All networks see the same images and are updated
    in the same step; in the paper they take turns. Their random initializations differ, because equal networks would
    stay equal.

    Only `model` is evaluated, unless `ensemble` is set. The `state_dict` of a checkpoint contains only `model`, so that
    `ReIDModule.load_from_checkpoint` can load it. The peers have their own entry, for resuming and for the ensemble.

    Source: Zhang, Xiang, Hospedales, Lu, "Deep Mutual Learning", CVPR 2018.

    Args:
        model: Spec of the network that is deployed.
        pids: Training identities.
        peers: Specs of the other networks, at least one.
        weight: Weight of the divergence, 0 or more.
        temperature: Divisor of the logits before the softmax, above 0; see `SoftTargets`.
        ensemble: Whether to evaluate all networks together, by concatenating their embeddings at unit length.
        options: Other arguments of `ReIDModule`. `loss` and `optimizer` apply to each network; all networks must have
            the modules in `new_layers`.

    Raises:
        ValueError: If there are no peers, or a number is out of range.
    """

    resumed_with: ClassVar[tuple[Resumed, ...]] = (
        *ReIDModule.resumed_with,
        Resumed("peers", "other peers, or without any", "engine="),
    )

    def __init__(
        self,
        model: Spec,
        pids: Sequence[int],
        peers: Sequence[Spec] = (),
        weight: float = 1.0,
        temperature: float = 1.0,
        ensemble: bool = False,
        **options: Unpack[ModuleOptions],
    ) -> None:
        super().__init__(model, pids, **options)
        if not peers:
            raise ValueError(
                "engine.peers=[] is invalid: mutual learning needs at least one other network, such as [osnet_x0_5]. "
                "Omit engine=mutual to test a checkpoint of a single network."
            )
        if weight < 0:
            raise ValueError(f"engine.weight={weight} is invalid: must be at least 0.")
        # Each network continues the random number sequence of the previous one, so that no two start equal.
        self.peers = nn.ModuleList(self._network(peer) for peer in peers)
        losses = [self._losses(network) for network in self.networks[1:]]
        self.peer_losses = nn.ModuleList(loss for loss in losses if loss is not None)
        self.mimicry = SoftTargets(temperature)
        self.weight = weight
        self.ensemble = ensemble

    @property
    def networks(self) -> list[ReIDModel]:
        """`model` and its peers."""
        return [self.model, *(cast("ReIDModel", peer) for peer in self.peers)]

    def forward(self, image: Tensor, camid: Tensor | None = None, frame_mask: Tensor | None = None) -> Tensor:
        """Embed images as `ReIDModule` does; with `ensemble`, return the concatenated embeddings of all networks."""
        if not self.ensemble:
            return super().forward(image, camid, frame_mask)
        # Without normalization, the network with the longest embedding vectors would dominate.
        embeddings = [functional.normalize(network.embed(image, camid, frame_mask)) for network in self.networks]
        return torch.cat(embeddings, dim=1)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute the loss of all networks; log it as `train/...` for `model` and `train/peer1/...` for the first peer.

        The divergence is logged as `mutual`.
        """
        losses = self._all_losses()
        frame_mask = batch.get("frame_mask")
        outputs: list[ReIDOutput] = [network(batch["image"], batch["camid"], frame_mask) for network in self.networks]
        logits = [softmax_logits(output.logits, loss) for output, loss in zip(outputs, losses, strict=True)]
        totals = []
        for number, (output, loss) in enumerate(zip(outputs, losses, strict=True)):
            total, terms = self.losses_of(output, batch, loss)
            others = logits[:number] + logits[number + 1 :]
            mutual = torch.stack([self.mimicry(logits[number], other) for other in others]).mean()
            totals.append(total + self.weight * mutual)
            prefix = f"train/peer{number}" if number else "train"
            self.log_step(prefix, output, batch, totals[-1], {**terms, "mutual": mutual})
        return {"loss": torch.stack(totals).sum(), "features": outputs[0].features[0].detach()}

    def start_from(self, path: str | Path) -> str:
        """Load a weight file into `model` and the peers with the same spec; see `NetworkModule`.

        These peers keep their random classifier, so that the networks differ.
        """
        lines = [super().start_from(path)]
        for number, (peer, spec) in enumerate(zip(self.networks[1:], self.hparams["peers"], strict=True), start=1):
            if without_pretraining(spec) != without_pretraining(self.hparams["model"]):
                lines.append(f"peer {number}: not loaded, because its spec differs from model")
                continue
            classifier = {name: tensor.clone() for name, tensor in peer.classifier.state_dict().items()}
            load_weights(peer, path)
            peer.classifier.load_state_dict(classifier)
            lines.append(f"peer {number}: loaded, except for its classifier")
        return "\n".join(lines)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the peers in their own entry, so that the `state_dict` contains only `model`."""
        super().on_save_checkpoint(checkpoint)
        saved = checkpoint["hyper_parameters"]
        checkpoint["hyper_parameters"] = {**saved, "peers": [without_pretraining(peer) for peer in saved["peers"]]}
        weights = checkpoint["state_dict"]
        checkpoint[PEERS] = {name: weights.pop(name) for name in list(weights) if name.startswith(PEER_PREFIXES)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the peers.

        Raises:
            ValueError: If the checkpoint does not contain them.
        """
        if PEERS not in checkpoint:
            raise ValueError(
                "The checkpoint contains a single network: it was not trained with engine=mutual. Omit engine=mutual "
                "to resume or test it, or start a new run from it with weights=<the same file>."
            )
        checkpoint["state_dict"].update(checkpoint[PEERS])

    def _all_losses(self) -> list[WeightedSum | None]:
        peer_losses = [cast("WeightedSum", loss) for loss in self.peer_losses]
        return [self.loss, *peer_losses] if peer_losses else [None for _ in self.networks]

    def _optimizer(self) -> Optimizer:
        spec = self.hparams["optimizer"]
        pairs = zip(self.networks, self._all_losses(), strict=True)
        optimizer, *others = [build_optimizer(network, spec, loss) for network, loss in pairs]
        for group in (group for other in others for group in other.param_groups):
            optimizer.add_param_group(group)
        return optimizer
