"""From a feature map to a vector, or to several, one a branch. A pooling has `num_branches`."""

import torch
from torch import Tensor, nn


class AveragePool(nn.Module):
    """The mean over all positions."""

    num_branches = 1

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) -> one (B, C)."""
        return (x.mean((2, 3)),)


class MaxPool(nn.Module):
    """The largest value over all positions."""

    num_branches = 1

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) -> one (B, C)."""
        return (x.amax((2, 3)),)


class AverageMaxPool(nn.Module):
    """The sum of the mean and of the largest value."""

    num_branches = 1

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) -> one (B, C)."""
        return (x.mean((2, 3)) + x.amax((2, 3)),)


class GeM(nn.Module):
    """Generalised mean: the p-th root of the mean p-th power, between the mean (p = 1) and the maximum; p is learned.

    Source: Radenovic, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019.

    Args:
        p: the power that learning starts from.
        eps: smaller values count as this one, as a negative number has no power.

    Raises:
        ValueError: if p or eps is not positive.
    """

    num_branches = 1

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        if p <= 0 or eps <= 0:
            raise ValueError(f"pool.p={p} and pool.eps={eps} must be positive.")
        self.p = nn.Parameter(torch.tensor([float(p)]))
        self.eps = eps

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) -> one (B, C), in fp32, which powers need."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float().clamp(min=self.eps)
            # Relative to the largest value, so that no power leaves the range of numbers; it cancels out.
            largest = x.detach().amax((2, 3), keepdim=True)
            return (largest[:, :, 0, 0] * (x / largest).pow(self.p).mean((2, 3)).pow(1 / self.p),)


class Stripes(nn.Module):
    """The mean over each of several horizontal stripes, a branch each.

    Source: Sun, Zheng, Yang, Tian, Wang, "Beyond Part Models: Person Retrieval with Refined Part Pooling", ECCV 2018.

    Args:
        parts: how many stripes.

    Raises:
        ValueError: if there are none.
    """

    def __init__(self, parts: int = 6) -> None:
        super().__init__()
        if parts < 1:
            raise ValueError(f"pool.parts={parts} must be 1 or more.")
        self.num_branches = parts

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) -> `parts` vectors (B, C), from top to bottom."""
        pooled = nn.functional.adaptive_avg_pool2d(x, (self.num_branches, 1))
        return pooled.squeeze(3).unbind(2)


class NoPool(nn.Module):
    """For a network that ends in vectors itself: one, or one a branch.

    Args:
        num_branches: how many vectors it gives.

    Raises:
        ValueError: in `forward`, if it gives another number.
    """

    def __init__(self, num_branches: int = 1) -> None:
        super().__init__()
        self.num_branches = num_branches

    def forward(self, x: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(B, C), or several of them -> the same."""
        vectors = (x,) if isinstance(x, Tensor) else x
        if len(vectors) != self.num_branches:
            raise ValueError(f"pool.num_branches={self.num_branches}, but the backbone gives {len(vectors)} vectors.")
        return vectors
