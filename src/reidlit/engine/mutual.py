"""Deep mutual learning: several networks that learn from the labels and from each other."""

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

PEERS = "peers"  # in a checkpoint
OF_PEERS = ("peers.", "peer_losses.")  # how the names of their tensors begin


class MutualModule(ReIDModule):
    """Trains `model` together with peers, each on its own losses and towards the predictions of the others.

    Source: Zhang, Xiang, Hospedales, Lu, "Deep Mutual Learning", CVPR 2018. The loss of each network is that of its labels
    plus `weight` times the mean over the other networks of KL(theirs || own); what the others predict is taken as given.
    All see the same images and take their step at once, where the paper lets them take turns. Each is initialised from
    other random numbers: equal networks would stay equal.

    After training there is `model` as if it had been trained alone: it is evaluated, and the weights of a checkpoint are
    its own, which `ReIDModule.load_from_checkpoint` and all else reads. Those of the peers lie beside them, for resuming
    and for the ensemble.

    Args:
        model: Spec of the network that is deployed.
        pids: Training identities.
        peers: Specs of the other networks, one or more.
        weight: Weight of the divergence, 0 or more.
        temperature: Divisor of the logits before the softmax; see `SoftTargets`.
        ensemble: Whether to evaluate all networks as one: their embeddings, each of unit length, concatenated.
        options: See `ReIDModule`. `loss` and `optimizer` apply to each network; `new_layers` must name parts that each has.

    Raises:
        ValueError: if there is no peer, or a number is out of range.
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
                "engine.peers=[]: mutual learning needs one more network, such as [osnet_x0_5]; a checkpoint of one network "
                "is tested without engine=mutual."
            )
        if weight < 0:
            raise ValueError(f"engine.weight={weight} must be 0 or more.")
        # Each draws on where the one before has stopped, so that no two start alike.
        self.peers = nn.ModuleList(self._network(peer) for peer in peers)
        losses = [self._losses(network) for network in self.networks[1:]]
        self.peer_losses = nn.ModuleList(each for each in losses if each is not None)
        self.mimicry = SoftTargets(temperature)
        self.weight = weight
        self.ensemble = ensemble

    @property
    def networks(self) -> list[ReIDModel]:
        """`model` and its peers."""
        return [self.model, *(cast("ReIDModel", peer) for peer in self.peers)]

    def forward(self, image: Tensor, camid: Tensor | None = None, frame_mask: Tensor | None = None) -> Tensor:
        """As `ReIDModule`; of an ensemble (B, D), where D is the sum over the networks."""
        if not self.ensemble:
            return super().forward(image, camid, frame_mask)
        # Else the network with the longest embeddings would decide alone.
        return torch.cat([functional.normalize(each.embed(image, camid, frame_mask)) for each in self.networks], dim=1)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step of all; logs as `ReIDModule`, the divergence as `train/mutual`, and peers as `train/peer1/...`."""
        losses = self._all_losses()
        frame_mask = batch.get("frame_mask")
        outputs: list[ReIDOutput] = [network(batch["image"], batch["camid"], frame_mask) for network in self.networks]
        logits = [softmax_logits(output.logits, loss) for output, loss in zip(outputs, losses, strict=True)]
        totals = []
        for place, (output, loss) in enumerate(zip(outputs, losses, strict=True)):
            total, each = self.losses_of(output, batch, loss)
            others = logits[:place] + logits[place + 1 :]
            mutual = torch.stack([self.mimicry(logits[place], other) for other in others]).mean()
            totals.append(total + self.weight * mutual)
            prefix = f"train/peer{place}" if place else "train"
            self.log_step(prefix, output, batch, totals[-1], {**each, "mutual": mutual})
        return {"loss": torch.stack(totals).sum(), "features": outputs[0].features[0].detach()}

    def start_from(self, path: str | Path) -> str:
        """As `ReIDModule`; peers of the same spec start from the file too, but for the classifier, so that they differ."""
        lines = [super().start_from(path)]
        for number, (peer, spec) in enumerate(zip(self.networks[1:], self.hparams["peers"], strict=True), start=1):
            if without_pretraining(spec) != without_pretraining(self.hparams["model"]):
                lines.append(f"peer {number}: is of another spec and starts as that says")
                continue
            own = {name: tensor.clone() for name, tensor in peer.classifier.state_dict().items()}
            load_weights(peer, path)
            peer.classifier.load_state_dict(own)
            lines.append(f"peer {number}: started alike, with a classifier of its own")
        return "\n".join(lines)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the peers' tensors beside the weights, which are then those of `model` alone."""
        super().on_save_checkpoint(checkpoint)
        saved = checkpoint["hyper_parameters"]
        checkpoint["hyper_parameters"] = {**saved, "peers": [without_pretraining(peer) for peer in saved["peers"]]}
        weights = checkpoint["state_dict"]
        checkpoint[PEERS] = {name: weights.pop(name) for name in list(weights) if name.startswith(OF_PEERS)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the peers' tensors back.

        Raises:
            ValueError: if there are none.
        """
        if PEERS not in checkpoint:
            raise ValueError(
                "The checkpoint holds one network, so it was not trained with engine=mutual. Leave engine=mutual out to go "
                "on with it or to test it, or start a new run from it with weights=<the same file>."
            )
        checkpoint["state_dict"].update(checkpoint[PEERS])

    def _all_losses(self) -> list[WeightedSum | None]:
        own = [cast("WeightedSum", each) for each in self.peer_losses]
        return [self.loss, *own] if own else [None for _ in self.networks]

    def _optimizer(self) -> Optimizer:
        spec = self.hparams["optimizer"]
        pairs = zip(self.networks, self._all_losses(), strict=True)
        optimizer, *others = [build_optimizer(network, spec, loss) for network, loss in pairs]
        for group in (group for other in others for group in other.param_groups):
            optimizer.add_param_group(group)
        return optimizer
