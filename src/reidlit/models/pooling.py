"""Poolings, which reduce a feature map to one vector per branch. A pooling has `num_branches`."""

import torch
from torch import Tensor, nn


class AveragePool(nn.Module):
    """Average pooling over all positions."""

    num_branches = 1

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Pool a map (B, C, H, W) to one vector (B, C)."""
        return (x.mean((2, 3)),)


class MaxPool(nn.Module):
    """Maximum pooling over all positions."""

    num_branches = 1

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Pool a map (B, C, H, W) to one vector (B, C)."""
        return (x.amax((2, 3)),)


class AverageMaxPool(nn.Module):
    """Sum of average and maximum pooling."""

    num_branches = 1

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Pool a map (B, C, H, W) to one vector (B, C)."""
        return (x.mean((2, 3)) + x.amax((2, 3)),)


class GeM(nn.Module):
    """Generalized mean with learned power p, between the mean (p = 1) and the maximum (p -> infinity).

    Source: Radenovic, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019.

    Args:
        p: Initial power.
        eps: Lower bound for values before the power is applied.

    Raises:
        ValueError: If `p` or `eps` is not positive.
    """

    num_branches = 1

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        if p <= 0 or eps <= 0:
            raise ValueError(f"pool.p={p} and pool.eps={eps} are invalid: both must be positive.")
        self.p = nn.Parameter(torch.tensor([float(p)]))
        self.eps = eps

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Pool a map (B, C, H, W) to one vector (B, C), computed in fp32 because powers overflow in half precision."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float().clamp(min=self.eps)
            # Dividing by the maximum, which cancels out, keeps the powers in range.
            largest = x.detach().amax((2, 3), keepdim=True)
            return (largest[:, :, 0, 0] * (x / largest).pow(self.p).mean((2, 3)).pow(1 / self.p),)


class Stripes(nn.Module):
    """Average pooling over horizontal stripes, one branch per stripe.

    Source: Sun, Zheng, Yang, Tian, Wang, "Beyond Part Models: Person Retrieval with Refined Part Pooling", ECCV 2018.

    Args:
        parts: Number of stripes.

    Raises:
        ValueError: If `parts` is not positive.
    """

    def __init__(self, parts: int = 6) -> None:
        super().__init__()
        if parts < 1:
            raise ValueError(f"pool.parts={parts} is invalid: must be at least 1.")
        self.num_branches = parts

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Pool a map (B, C, H, W) to `parts` vectors (B, C), from top to bottom."""
        pooled = nn.functional.adaptive_avg_pool2d(x, (self.num_branches, 1))
        return pooled.squeeze(3).unbind(2)


class NoPool(nn.Module):
    """Identity pooling for backbones that return one vector per branch.

    Args:
        num_branches: Number of vectors that the backbone returns.

    Raises:
        ValueError: If the backbone returns another number of vectors (raised by `forward`).
    """

    def __init__(self, num_branches: int = 1) -> None:
        super().__init__()
        self.num_branches = num_branches

    def forward(self, x: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return a vector (B, C), or a tuple of vectors, as a tuple."""
        vectors = (x,) if isinstance(x, Tensor) else x
        if len(vectors) != self.num_branches:
            raise ValueError(
                f"pool.num_branches={self.num_branches} does not match the {len(vectors)} vectors of the backbone: set it "
                f"to {len(vectors)}."
            )
        return vectors
