"""Knowledge distillation: a network that learns from the labels and from a trained teacher."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional

from reidlit.data.sample import Batch
from reidlit.engine.base import ModuleOptions, Spec
from reidlit.engine.distributed import gather as gathered
from reidlit.engine.reid import ReIDModule
from reidlit.losses import WeightedSum
from reidlit.losses.distillation import RelationalAngle, RelationalDistance, SoftTargets, softmax_logits
from reidlit.models.output import ReIDOutput
from reidlit.models.weights import read_checkpoint

TERMS = ("soft_targets", "relational_distance", "relational_angle")


class Teacher:
    """A trained network that answers and never changes.

    It is no `nn.Module`, so that it stays out of the student's parameters, state and training mode.

    Args:
        path: a checkpoint of `reidlit train`.
        device: where it works.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such checkpoint.
    """

    def __init__(self, path: str, device: torch.device) -> None:
        file = Path(path).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"engine.teacher={path} does not exist: give a checkpoint of reidlit train.")
        content = read_checkpoint(file)
        if not isinstance(content, dict) or "hyper_parameters" not in content:
            raise ValueError(
                f"engine.teacher={path} is no checkpoint of reidlit train: it does not say what the network is built of."
            )
        module = ReIDModule.load_from_checkpoint(file, map_location="cpu")
        self.model = module.model.to(device).eval().requires_grad_(False)
        self.loss = module.loss
        self.pids = list(module.hparams["pids"])
        self.image_size = tuple(module.hparams["image_size"])

    @torch.no_grad()
    def __call__(self, batch: Batch) -> ReIDOutput:
        """Its output for the images of a batch, uint8, which are resized to what it was trained on."""
        image = self.model.normalize(batch["image"])
        if tuple(image.shape[-2:]) != self.image_size:
            flat = functional.interpolate(image.flatten(0, -4), self.image_size, mode="bilinear", antialias=True)
            image = flat.reshape(*image.shape[:-2], *self.image_size)
        output: ReIDOutput = self.model(image, batch["camid"], batch.get("frame_mask"))
        return output


class DistillationModule(ReIDModule):
    """Trains a network on its losses and towards what a teacher answers to the same augmented images.

    Sources: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", NeurIPS Workshops 2014 (soft targets);
    Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019 (distances and angles of embeddings). The teacher is
    read when training starts; a checkpoint of the student needs it no more.

    Args:
        model: Spec of the student.
        pids: Training identities.
        teacher: Path of a checkpoint of `reidlit train`; needed for training only.
        weights: Weights of `soft_targets`, `relational_distance` and `relational_angle`; a term with weight zero or without
            one is not computed. Soft targets need a teacher of the same identities.
        temperature: Temperature of the soft targets.
        options: See `ReIDModule`. `image_size` is the student's; the teacher's may differ.

    Raises:
        ValueError: if a number is out of range or a name unknown; when training starts, if the teacher does not fit.
        FileNotFoundError: when training starts, if there is no teacher.
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
        given = {"soft_targets": 1.0} if weights is None else dict(weights)
        if unknown := sorted(set(given) - set(TERMS)):
            raise ValueError(f"engine.weights names {unknown}; it may name {', '.join(TERMS)}.")
        if min(given.values(), default=0) < 0 or not any(given.values()):
            raise ValueError(f"engine.weights={given}: weights must be 0 or more, and one of them positive.")
        self.weights = {name: float(weight) for name, weight in given.items() if weight}
        self.soft_targets = SoftTargets(temperature)
        self.relations = {"relational_distance": RelationalDistance(), "relational_angle": RelationalAngle()}
        self.teacher: Teacher | None = None

    def on_fit_start(self) -> None:
        """Read the teacher.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it does not fit.
        """
        path = self.hparams["teacher"]
        if path is None:
            raise ValueError("engine.teacher=null: give the path of a checkpoint of reidlit train.")
        teacher = Teacher(path, self.device)
        if "soft_targets" in self.weights and teacher.pids != list(self.hparams["pids"]):
            raise ValueError(
                f"engine.teacher={path} was trained on other identities ({len(teacher.pids)}, here "
                f"{len(self.hparams['pids'])}), so it has no soft targets for these. Set engine.weights.soft_targets=0 and, "
                "say, engine.weights.relational_distance=1 engine.weights.relational_angle=2."
            )
        self.teacher = teacher

    def losses_of(self, output: ReIDOutput, batch: Batch, loss: WeightedSum | None) -> tuple[Tensor, dict[str, Tensor]]:
        """As `ReIDModule`, and the terms of the distillation, with their weighted sum as `distillation`."""
        total, each = super().losses_of(output, batch, loss)
        terms = self._distil(output, batch, loss)
        distillation = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
        shown = terms if len(terms) > 1 else {}
        return total + distillation, {**each, **shown, "distillation": distillation}

    def _distil(self, output: ReIDOutput, batch: Batch, loss: WeightedSum | None) -> dict[str, Tensor]:
        """Each term by its name, unweighted."""
        if self.teacher is None:
            raise ValueError(
                "The teacher is read when a Trainer starts to fit; without one there is nothing to learn from."
            )
        answer = self.teacher(batch)
        terms = {}
        if "soft_targets" in self.weights:
            own, target = softmax_logits(output.logits, loss), softmax_logits(answer.logits, self.teacher.loss)
            terms["soft_targets"] = self.soft_targets(own, target)
        if relations := {name: term for name, term in self.relations.items() if name in self.weights}:
            pair = (output, answer)
            if self.gather:
                pair = (gathered(output, batch["pid"]).output, gathered(answer, batch["pid"]).output)
            terms |= {name: term(pair[0].embedding, pair[1].embedding) for name, term in relations.items()}
        return terms
