"""What a network learns from the answers of another one, instead of from labels.

Each is `loss(own, target) -> scalar`, in fp32; no gradient goes to the target.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.losses.margin import MarginSoftmax


class SoftTargets(nn.Module):
    """Kullback-Leibler divergence from the softmax of another network to the own one, the mean over the own branches.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", NeurIPS Workshops 2014, with its factor
    T^2, which keeps the size of the gradient; at T = 1 it is the mimicry loss of Zhang, Xiang, Hospedales, Lu, "Deep Mutual
    Learning", CVPR 2018. Of a target with several branches the probabilities are averaged, so the two need not have
    equally many.

    Args:
        temperature: T, by which logits are divided before the softmax; higher shows more of the unlikely classes.

    Raises:
        ValueError: if the temperature is not positive.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature={temperature} must be positive and finite.")
        self.temperature = temperature

    def forward(self, own: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
        """Scalar loss of (B, C) logits, one a branch, as a softmax reads them (`softmax_logits`)."""
        shares = [functional.softmax(logits.detach().float() / self.temperature, dim=1) for logits in target]
        probability = torch.stack(shares).mean(0)
        losses = [
            functional.kl_div(
                functional.log_softmax(logits.float() / self.temperature, dim=1), probability, reduction="batchmean"
            )
            for logits in own
        ]
        return self.temperature**2 * torch.stack(losses).mean()


class RelationalDistance(nn.Module):
    """Pairs of images shall be as far apart as the target's, relative to the mean distance in the batch.

    Source: Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019, equations 4 to 6: Euclidean distances, the
    Huber loss with delta 1, here the mean over pairs. The sizes of the two embeddings may differ.
    """

    compares = True

    def forward(self, own: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of embeddings (N, D) and (N, E); zero of fewer than two images."""
        if len(own) < 2:
            return own.float().sum() * 0
        return functional.huber_loss(_relative_distances(own), _relative_distances(target.detach()))


class RelationalAngle(nn.Module):
    """Triples of images shall form the same angles as the target's.

    Source: Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019, equations 7 and 8: cosines of the angle at
    each image between any two others, the Huber loss with delta 1, here the mean over triples. It takes memory for N^2 D
    and N^3 numbers.
    """

    compares = True

    def forward(self, own: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of embeddings (N, D) and (N, E); zero of fewer than three images."""
        count = len(own)
        if count < 3:
            return own.float().sum() * 0
        # Mixed precision would round the cosines of narrow angles away.
        with torch.autocast(own.device.type, enabled=False):
            loss = functional.huber_loss(_cosines(own.float()), _cosines(target.detach().float()), reduction="sum")
        return loss / (count * (count - 1) * (count - 2))


def softmax_logits(logits: Sequence[Tensor], losses: nn.Module | None) -> list[Tensor]:
    """(B, C) logits as a softmax reads them: cosines times the scale of the margin loss that is among `losses`."""
    terms = [] if losses is None else list(losses.modules())
    scale = next((term.scale for term in terms if isinstance(term, MarginSoftmax)), 1.0)
    return [scale * each.float() for each in logits]


def _relative_distances(features: Tensor) -> Tensor:
    """(N, D) -> the distance of each pair over the mean of all; the gradient is zero where features coincide."""
    distance = functional.pdist(features.float().contiguous())
    return distance / distance.mean().clamp(min=1e-12)


def _cosines(features: Tensor) -> Tensor:
    """(N, D) -> (N, N, N), at [j, i, k] the cosine of the angle at j between i and k; zero where two are the same."""
    difference = features[None, :] - features[:, None]
    squared = difference.square().sum(2, keepdim=True)
    # Coinciding features, for instance of an image that was drawn twice, have no direction, and no gradient.
    apart = squared > 0
    direction = (difference * torch.where(apart, squared, 1).rsqrt()).masked_fill(~apart, 0)
    same = torch.eye(len(features), dtype=torch.bool, device=features.device)
    return (direction @ direction.transpose(1, 2)).masked_fill(same, 0)
