"""Distillation losses: a student network learns from the output of a teacher network.

Each is called as `loss(student, teacher)` and returns a scalar in fp32. The teacher gets no gradient.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.losses.margin import MarginSoftmax


class SoftTargets(nn.Module):
    """Kullback-Leibler divergence between the softmax outputs of a teacher and a student.

        loss = T^2 * KL(softmax(teacher / T) || softmax(student / T))

    The factor T^2 keeps the gradient independent of the temperature T. The loss is the mean over images and student
    branches. The probabilities of several teacher branches are averaged, so the two networks may have different numbers
    of branches.

    Sources: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", NeurIPS Workshops 2014; with T = 1,
    the mimicry loss of Zhang, Xiang, Hospedales, Lu, "Deep Mutual Learning", CVPR 2018.

    Args:
        temperature: Divisor T of the logits, above 0. A higher value gives unlikely classes more weight.

    Raises:
        ValueError: If the temperature is not positive and finite.

    Example:
        >>> import torch
        >>> from reidlit.losses.distillation import SoftTargets
        >>> student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0]])
        >>> loss = SoftTargets(temperature=4.0)([student], [teacher])
        >>> round(loss.item(), 4)
        0.4585
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature={temperature} is invalid: must be above 0 and finite.")
        self.temperature = temperature

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return the scalar loss in fp32.

        Args:
            student: (B, C) logits of each branch of the student, as returned by `softmax_logits`.
            teacher: (B, C) logits of each branch of the teacher.
        """
        branches = [functional.softmax(logits.detach().float() / self.temperature, dim=1) for logits in teacher]
        probability = torch.stack(branches).mean(0)
        losses = [
            functional.kl_div(
                functional.log_softmax(logits.float() / self.temperature, dim=1), probability, reduction="batchmean"
            )
            for logits in student
        ]
        return self.temperature**2 * torch.stack(losses).mean()


class RelationalDistance(nn.Module):
    """Distance-wise relational distillation: the student learns the teacher's distances between images.

        loss = huber(d_student(i, j) / mean(d_student), d_teacher(i, j) / mean(d_teacher))

    d is the Euclidean distance between two embeddings, and huber is the Huber loss with delta 1. The loss is the mean
    over pairs of images. The two embeddings may differ in size.

    Source: Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019, equations 4 to 6.

    Example:
        >>> import torch
        >>> from reidlit.losses.distillation import RelationalDistance
        >>> student = torch.tensor([[0.0], [1.0], [2.0]])
        >>> teacher = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
        >>> round(RelationalDistance()(student, teacher).item(), 6)  # distances are equal up to scale
        0.0
    """

    compares = True

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the scalar loss of (N, D) and (N, E) embeddings; zero for fewer than two images."""
        if len(student) < 2:
            return student.float().sum() * 0
        return functional.huber_loss(_relative_distances(student), _relative_distances(teacher.detach()))


class RelationalAngle(nn.Module):
    """Angle-wise relational distillation: the student learns the teacher's angles between images.

        loss = huber(cos_student(i, j, k), cos_teacher(i, j, k))

    cos is the cosine of the angle at embedding j between i and k, and huber is the Huber loss with delta 1. The loss is
    the mean over triples of images. The two embeddings may differ in size. Memory grows with N^2 D and N^3.

    Source: Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019, equations 7 and 8.

    Example:
        >>> import torch
        >>> from reidlit.losses.distillation import RelationalAngle
        >>> student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> round(RelationalAngle()(student, 5 * student).item(), 6)  # scaling does not change angles
        0.0
    """

    compares = True

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the scalar loss of (N, D) and (N, E) embeddings; zero for fewer than three images."""
        count = len(student)
        if count < 3:
            return student.float().sum() * 0
        # Half precision would round away the cosines of narrow angles.
        with torch.autocast(student.device.type, enabled=False):
            cosines, targets = _cosines(student.float()), _cosines(teacher.detach().float())
            loss = functional.huber_loss(cosines, targets, reduction="sum")
        return loss / (count * (count - 1) * (count - 2))


def softmax_logits(logits: Sequence[Tensor], losses: nn.Module | None) -> list[Tensor]:
    """Return logits as the classification loss of a network passes them to its softmax.

    A margin loss multiplies cosines by its scale. Other losses do not change the logits.

    Args:
        logits: (B, C) logits of each branch.
        losses: Losses of the network; None if they are unknown.

    Returns:
        (B, C) logits of each branch in fp32.

    Example:
        >>> import torch
        >>> from reidlit.losses import ArcFace
        >>> from reidlit.losses.distillation import softmax_logits
        >>> softmax_logits([torch.tensor([[0.5, -0.5]])], ArcFace(scale=30.0))
        [tensor([[ 15., -15.]])]
    """
    modules = [] if losses is None else list(losses.modules())
    scale = next((module.scale for module in modules if isinstance(module, MarginSoftmax)), 1.0)
    return [scale * branch.float() for branch in logits]


def _relative_distances(features: Tensor) -> Tensor:
    """Return the distance of each pair of (N, D) features divided by the mean; no gradient where features coincide."""
    distance = functional.pdist(features.float().contiguous())
    return distance / distance.mean().clamp(min=1e-12)


def _cosines(features: Tensor) -> Tensor:
    """Return the (N, N, N) cosines [j, i, k] of the angles at j between i and k; zero where two of them are equal."""
    difference = features[None, :] - features[:, None]
    squared = difference.square().sum(2, keepdim=True)
    # The direction between equal features is undefined, for example if a batch contains an image twice.
    differs = squared > 0
    direction = (difference * torch.where(differs, squared, 1).rsqrt()).masked_fill(~differs, 0)
    same = torch.eye(len(features), dtype=torch.bool, device=features.device)
    return (direction @ direction.transpose(1, 2)).masked_fill(same, 0)
