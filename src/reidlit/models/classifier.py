"""Classifiers, which map bottleneck vectors to logits of training identities."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.models.layers import initialize


class LinearClassifier(nn.Linear):
    """Linear layer, initialized from N(0, 0.01).

    Args:
        in_features: Size of the bottleneck.
        num_classes: Number of training identities.
        bias: Whether to add a bias. A classifier after a BNNeck has none.
    """

    def __init__(self, in_features: int, num_classes: int, bias: bool = True) -> None:
        super().__init__(in_features, num_classes, bias)
        initialize(self)


class CosineClassifier(nn.Module):
    """Cosine similarity between the bottleneck and a learned direction per identity, for margin losses.

    Source: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018.

    Args:
        in_features: Size of the bottleneck.
        num_classes: Number of training identities.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, in_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return cosines (B, num_classes) of vectors (B, D), in fp32 because margin losses need the precision."""
        with torch.autocast(x.device.type, enabled=False):
            return functional.linear(functional.normalize(x.float()), functional.normalize(self.weight.float()))
