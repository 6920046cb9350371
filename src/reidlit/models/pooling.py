"""From a feature map to a vector."""

from torch import Tensor, nn


class AveragePool(nn.Module):
    """The mean over all positions."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C)."""
        return x.mean((2, 3))
