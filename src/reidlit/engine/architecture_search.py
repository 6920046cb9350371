"""Architecture search by gradient descent."""

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
    """LightningModule for differentiable architecture search with OSNet-AIN blocks.

    The search network contains all candidate blocks, and learns the probability of each. One loss and one optimizer
    train both the weights and the logits of the candidates. Weight decay does not apply to the logits, because it would
    pull all probabilities towards uniform. Each step samples an architecture on each device, at a temperature that
    decreases over epochs (see `SearchBlock`).

    The result of a search is `OSNetAINSearch.layout`, an architecture to train from scratch. The scores of the search
    network, a sum of all candidates, do not predict the scores of that architecture.

    Source: Zhou, Yang, Cavallaro, Xiang, "Learning Generalisable Omni-Scale Representations for Person
    Re-Identification", TPAMI 2021.

    Args:
        model: Spec of a model whose backbone is an `OSNetAINSearch`.
        pids: Training identities.
        temperature: Initial temperature of the Gumbel-softmax, at least `min_temperature`.
        temperature_decay: Factor applied to the temperature every `decay_every` epochs, above 0 and at most 1.
        decay_every: Number of epochs between two decays, at least 1.
        min_temperature: Lower bound of the temperature, above 0.
        architecture_lr: Learning rate of the candidates' logits; None for the learning rate of the optimizer. The
            schedule applies to it too.
        samples: Number of architectures sampled per batch, at least 1. The loss is their mean; time and memory grow
            linearly.
        options: Other arguments of `ReIDModule`.

    Raises:
        ValueError: If a number is out of range, or the backbone is not an `OSNetAINSearch`.
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
                f"engine.min_temperature={min_temperature} is invalid: must be above 0 and at most "
                f"engine.temperature={temperature}."
            )
        if not 0 < temperature_decay <= 1 or decay_every < 1:
            raise ValueError(
                f"engine.temperature_decay={temperature_decay} must be above 0 and at most 1, and "
                f"engine.decay_every={decay_every} must be at least 1."
            )
        if samples < 1 or (architecture_lr is not None and architecture_lr <= 0):
            raise ValueError(
                f"engine.samples={samples} must be at least 1, and engine.architecture_lr={architecture_lr} must be "
                "above 0, or null for optimizer.lr."
            )
        super().__init__(model, pids, **options)
        self.temperature = temperature
        self.temperature_decay = temperature_decay
        self.decay_every = decay_every
        self.min_temperature = min_temperature
        self.samples = samples

    @property
    def space(self) -> OSNetAINSearch:
        """Search network."""
        return cast("OSNetAINSearch", self.model.backbone)

    def temperature_of(self, epoch: int) -> float:
        """Return the temperature in an epoch, counted from 0."""
        return max(self.min_temperature, self.temperature * self.temperature_decay ** (epoch // self.decay_every))

    def on_train_epoch_start(self) -> None:
        """Set the temperature; checkpoints contain it, so that a run can resume within an epoch."""
        self.space.set_temperature(self.temperature_of(self.current_epoch))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute the mean loss of the sampled architectures; log it and the accuracy of the first one."""
        outputs: list[ReIDOutput] = [
            self.model(batch["image"], batch["camid"], batch.get("frame_mask")) for _ in range(self.samples)
        ]
        losses = [self.losses_of(output, batch, self.loss) for output in outputs]
        total = torch.stack([total for total, _ in losses]).mean()
        mean_terms = {name: torch.stack([terms[name] for _, terms in losses]).mean() for name in losses[0][1]}
        self.log_step("train", outputs[0], batch, total, mean_terms)
        return {"loss": total, "features": outputs[0].features[0].detach()}

    def on_train_epoch_end(self) -> None:
        """Log the temperature, the entropy of each choice in nats and the probability of each candidate."""
        names = list(self.space.positions)
        entropies = self.space.entropy
        logged: dict[str, Tensor | float] = {
            "temperature": self.temperature_of(self.current_epoch),
            "entropy": entropies.mean(),
        }
        logged |= {f"entropy/{name}": entropy for name, entropy in zip(names, entropies, strict=True)}
        for name, row in zip(names, self.space.probabilities, strict=True):
            logged |= {
                f"{name}/{candidate}": probability for candidate, probability in zip(CANDIDATES, row, strict=True)
            }
        self.log_dict({f"search/{name}": value for name, value in logged.items()})

    def on_test_start(self) -> None:
        """Warn that the scores do not belong to the architecture found."""
        rank_zero_warn(
            "These scores belong to the search network, a sum of all candidates. They do not predict the scores of the "
            "architecture found: train that with model=osnet_ain_found. Set test=false to skip this test."
        )

    def _optimizer(self) -> Optimizer:
        optimizer = super()._optimizer()
        logits = [block.logits for block in self.space.positions.values()]
        logits_ids = {id(parameter) for parameter in logits}
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in logits_ids]
        lr = self.hparams["architecture_lr"] or self.hparams["optimizer"]["lr"]
        optimizer.add_param_group({"params": logits, "lr": lr, "weight_decay": 0.0})
        return optimizer

    def _network(self, spec: Spec) -> ReIDModel:
        network = super()._network(spec)
        if not isinstance(network.backbone, OSNetAINSearch):
            raise ValueError(
                "engine=architecture_search requires model=osnet_ain_search, whose backbone contains all candidates. "
                f"The backbone of this model is {type(network.backbone).__name__}."
            )
        return network
