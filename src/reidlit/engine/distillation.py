"""Knowledge distillation: a student network learns from labels and from a trained teacher network."""

from collections.abc import Mapping, Sequence
from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional

from reidlit.data.sample import Batch
from reidlit.engine.base import ModuleOptions, Spec
from reidlit.engine.distributed import gather
from reidlit.engine.reid import ReIDModule
from reidlit.foreign_files import expanded
from reidlit.losses import WeightedSum
from reidlit.losses.distillation import RelationalAngle, RelationalDistance, SoftTargets, softmax_logits
from reidlit.models.output import ReIDOutput
from reidlit.models.weights import read_settings

TERMS = ("soft_targets", "relational_distance", "relational_angle")


class Teacher:
    """A trained network in evaluation mode, without gradients.

    It is not an `nn.Module`, so that the student's parameters, state and training mode do not include it.

    Args:
        path: Checkpoint of `reidlit train`.
        device: Device of the network.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a checkpoint of `reidlit train`.
    """

    def __init__(self, path: str, device: torch.device) -> None:
        file = expanded(path)
        if not file.is_file():
            raise FileNotFoundError(f"engine.teacher={path} does not exist: pass a checkpoint of reidlit train.")
        if "hyper_parameters" not in read_settings(file):
            raise ValueError(
                f"engine.teacher={path} is not a checkpoint of reidlit train: it does not contain the spec of the "
                "network."
            )
        module = ReIDModule.load_from_checkpoint(file, map_location="cpu")
        self.model = module.model.to(device).eval().requires_grad_(False)
        self.loss = module.loss
        self.pids = list(module.hparams["pids"])
        self.image_size = tuple(module.hparams["image_size"])

    @torch.no_grad()
    def __call__(self, batch: Batch) -> ReIDOutput:
        """Return the output for a batch of uint8 images, resized to the image size of this network."""
        image = self.model.normalize(batch["image"])
        if tuple(image.shape[-2:]) != self.image_size:
            resized = functional.interpolate(image.flatten(0, -4), self.image_size, mode="bilinear", antialias=True)
            image = resized.reshape(*image.shape[:-2], *self.image_size)
        output: ReIDOutput = self.model(image, batch["camid"], batch.get("frame_mask"))
        return output


class DistillationModule(ReIDModule):
    """LightningModule for knowledge distillation.

    The student learns from its losses, and from the output of a teacher for the same augmented images. The teacher is
    loaded when training starts. A checkpoint of the student does not need it.

    Sources: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", NeurIPS Workshops 2014 (soft
    targets); Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019 (distances and angles of embeddings).

    Args:
        model: Spec of the student.
        pids: Training identities.
        teacher: Path of a checkpoint of `reidlit train`; required for training only.
        weights: Weights of the terms `soft_targets`, `relational_distance` and `relational_angle`. A missing term or a
            term with weight zero is not computed. Soft targets require a teacher trained on the same identities.
        temperature: Temperature of the soft targets, above 0.
        options: Other arguments of `ReIDModule`. The `image_size` of the teacher may differ.

    Raises:
        ValueError: If a weight or the temperature is out of range, or a name in weights is unknown; when training
            starts, if the teacher is missing or does not fit.
        FileNotFoundError: If the teacher does not exist when training starts.
    """

    def __init__(
        self,
        model: Spec,
        pids: Sequence[int],
        teacher: str | None = None,
        weights: Mapping[str, float] | None = None,
        temperature: float = 4.0,
        **options: Unpack[ModuleOptions],
    ) -> None:
        super().__init__(model, pids, **options)
        weights = {"soft_targets": 1.0} if weights is None else dict(weights)
        if unknown := sorted(set(weights) - set(TERMS)):
            raise ValueError(f"engine.weights contains unknown names {unknown}: must be among {', '.join(TERMS)}.")
        if min(weights.values(), default=0) < 0 or not any(weights.values()):
            raise ValueError(
                f"engine.weights={weights} is invalid: weights must be at least 0, and one of them above 0."
            )
        self.weights = {name: float(weight) for name, weight in weights.items() if weight}
        self.soft_targets = SoftTargets(temperature)
        self.relations = {"relational_distance": RelationalDistance(), "relational_angle": RelationalAngle()}
        self.teacher: Teacher | None = None

    def on_fit_start(self) -> None:
        """Load the teacher.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If it is not set, or soft targets are used and it was trained on other identities.
        """
        path = self.hparams["teacher"]
        if path is None:
            raise ValueError("engine.teacher=null is invalid: pass the path of a checkpoint of reidlit train.")
        teacher = Teacher(path, self.device)
        num_pids = len(self.hparams["pids"])
        if "soft_targets" in self.weights and teacher.pids != list(self.hparams["pids"]):
            raise ValueError(
                f"engine.teacher={path} was trained on other identities ({len(teacher.pids)} instead of these "
                f"{num_pids}), so its soft targets cannot be used. Set engine.weights.soft_targets=0 and, for example, "
                "engine.weights.relational_distance=1 engine.weights.relational_angle=2."
            )
        self.teacher = teacher

    def losses_of(self, output: ReIDOutput, batch: Batch, loss: WeightedSum | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the losses as `ReIDModule` does, with the distillation terms and their weighted sum `distillation`."""
        total, losses = super().losses_of(output, batch, loss)
        terms = self._distillation_terms(output, batch, loss)
        distillation = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
        logged_terms = terms if len(terms) > 1 else {}
        return total + distillation, {**losses, **logged_terms, "distillation": distillation}

    def _distillation_terms(self, output: ReIDOutput, batch: Batch, loss: WeightedSum | None) -> dict[str, Tensor]:
        """Return the unweighted distillation terms by name."""
        if self.teacher is None:
            raise ValueError("The teacher is not loaded yet: train with Trainer.fit, which loads it at the start.")
        target = self.teacher(batch)
        terms = {}
        if "soft_targets" in self.weights:
            logits, target_logits = (
                softmax_logits(output.logits, loss),
                softmax_logits(target.logits, self.teacher.loss),
            )
            terms["soft_targets"] = self.soft_targets(logits, target_logits)
        if relations := {name: term for name, term in self.relations.items() if name in self.weights}:
            if self.gather:
                output, target = gather(output, batch["pid"]).output, gather(target, batch["pid"]).output
            terms |= {name: term(output.embedding, target.embedding) for name, term in relations.items()}
        return terms
