"""The search of an architecture by gradient descent."""

from collections.abc import Sequence
from typing import Unpack, cast

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from reidlit.data.sample import Batch
from reidlit.engine.base import ModuleOptions, Spec
from reidlit.engine.reid import ReIDModule
from reidlit.models.backbones.osnet_ain import CANDIDATES
from reidlit.models.backbones.osnet_ain_search import OSNetAINSearch
from reidlit.models.model import ReIDModel
from reidlit.models.output import ReIDOutput


class ArchitectureSearchModule(ReIDModule):
    """Trains the network that holds all candidates, and with it what tells how probable each candidate is.

    Source: Zhou, Yang, Cavallaro, Xiang, "Learning Generalisable Omni-Scale Representations for Person Re-Identification",
    TPAMI 2021. There is one loss and one optimiser for the weights of the network and for those of the choice, which get no
    weight decay here: it would draw every choice back to chance. Each step draws an architecture at a temperature that falls
    with the epochs, see `SearchBlock`; each device draws its own.

    What a search ends with is `OSNetAINSearch.layout`, to be trained anew. The scores of the network of the search, which is
    a sum of all candidates, say nothing of it.

    Args:
        model: Spec of a model whose backbone is an `OSNetAINSearch`.
        pids: Training identities.
        temperature: Temperature of the Gumbel-softmax at the start.
        temperature_decay: Factor that is applied to it every `decay_every` epochs; 1 keeps it.
        decay_every: Number of epochs.
        min_temperature: Lower bound of the temperature.
        architecture_lr: Learning rate of the candidates' logits; by default that of the optimizer. The schedule applies to
            both.
        samples: Number of architectures sampled for each batch; the loss is their mean. Time and memory grow with them.
        options: See `ReIDModule`.

    Raises:
        ValueError: if a number is out of range, or the model is another.
    """

    def __init__(
        self,
        model: Spec,
        pids: Sequence[int],
        temperature: float = 10.0,
        temperature_decay: float = 0.5,
        decay_every: int = 20,
        min_temperature: float = 1.0,
        architecture_lr: float | None = None,
        samples: int = 1,
        **options: Unpack[ModuleOptions],
    ) -> None:
        if not 0 < min_temperature <= temperature:
            raise ValueError(
                f"engine.min_temperature={min_temperature} must be above 0 and at most engine.temperature={temperature}."
            )
        if not 0 < temperature_decay <= 1 or decay_every < 1:
            raise ValueError(
                f"engine.temperature_decay={temperature_decay} must be above 0 and at most 1, which keeps the temperature; "
                f"engine.decay_every={decay_every} must be 1 or more epochs."
            )
        if samples < 1 or (architecture_lr is not None and architecture_lr <= 0):
            raise ValueError(
                f"engine.samples={samples} must be 1 or more, engine.architecture_lr={architecture_lr} above 0, or null for "
                "optimizer.lr."
            )
        super().__init__(model, pids, **options)
        self.temperature = temperature
        self.temperature_decay = temperature_decay
        self.decay_every = decay_every
        self.min_temperature = min_temperature
        self.samples = samples

    @property
    def space(self) -> OSNetAINSearch:
        """The network that is searched."""
        return cast("OSNetAINSearch", self.model.backbone)

    def temperature_of(self, epoch: int) -> float:
        """The temperature in an epoch, counted from 0."""
        return max(self.min_temperature, self.temperature * self.temperature_decay ** (epoch // self.decay_every))

    def on_train_epoch_start(self) -> None:
        """Set the temperature, which a checkpoint keeps for the rest of an epoch."""
        self.space.set_temperature(self.temperature_of(self.current_epoch))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step; logs as `ReIDModule`, the accuracy of the first sample."""
        outputs: list[ReIDOutput] = [
            self.model(batch["image"], batch["camid"], batch.get("frame_mask")) for _ in range(self.samples)
        ]
        losses = [self.losses_of(output, batch, self.loss) for output in outputs]
        total = torch.stack([total for total, _ in losses]).mean()
        each = {name: torch.stack([terms[name] for _, terms in losses]).mean() for name in losses[0][1]}
        self.log_step("train", outputs[0], batch, total, each)
        return {"loss": total, "features": outputs[0].features[0].detach()}

    def on_train_epoch_end(self) -> None:
        """Log how open the choices are, in nats, and how probable each candidate is."""
        names = list(self.space.positions)
        entropies = self.space.entropy
        logged: dict[str, Tensor | float] = {
            "temperature": self.temperature_of(self.current_epoch),
            "entropy": entropies.mean(),
        }
        logged |= {f"entropy/{name}": entropy for name, entropy in zip(names, entropies, strict=True)}
        for name, row in zip(names, self.space.probabilities, strict=True):
            logged |= {f"{name}/{candidate}": share for candidate, share in zip(CANDIDATES, row, strict=True)}
        self.log_dict({f"search/{name}": value for name, value in logged.items()})

    def on_test_start(self) -> None:
        """Say what the scores are not."""
        rank_zero_warn(
            "These are scores of the network of the search, a sum of all candidates, and say nothing of the architecture "
            "found: train that, with model=osnet_ain_found. test=false leaves this test out."
        )

    def _optimizer(self) -> Optimizer:
        optimizer = super()._optimizer()
        choices = [block.logits for block in self.space.positions.values()]
        own = {id(parameter) for parameter in choices}
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in own]
        lr = self.hparams["architecture_lr"] or self.hparams["optimizer"]["lr"]
        optimizer.add_param_group({"params": choices, "lr": lr, "weight_decay": 0.0})
        return optimizer

    def _network(self, spec: Spec) -> ReIDModel:
        network = super()._network(spec)
        if not isinstance(network.backbone, OSNetAINSearch):
            raise ValueError(
                f"engine=architecture_search needs model=osnet_ain_search, whose backbone holds all candidates; this model's "
                f"is {type(network.backbone).__name__}, which leaves nothing to choose."
            )
        return network
