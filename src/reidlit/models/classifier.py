"""From a bottleneck to one logit a training identity."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.models.layers import initialize


class LinearClassifier(nn.Linear):
    """A linear layer, initialised N(0, 0.01).

    Args:
        in_features: size of the bottleneck.
        num_classes: how many identities.
        bias: whether it has a bias; behind a BNNeck it has none.
    """

    def __init__(self, in_features: int, num_classes: int, bias: bool = True) -> None:
        super().__init__(in_features, num_classes, bias)
        initialize(self)


class CosineClassifier(nn.Module):
    """The cosine between the bottleneck and a learned direction of each identity; margin losses go on from there.

    Source: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018.

    Args:
        in_features: size of the bottleneck.
        num_classes: how many identities.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, in_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> cosines (B, num_classes), in fp32, which margins need."""
        with torch.autocast(x.device.type, enabled=False):
            return functional.linear(functional.normalize(x.float()), functional.normalize(self.weight.float()))
