"""Neck of PCB."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from reidlit.models.layers import initialize
from reidlit.models.neck import NeckOutput


class PartNeck(nn.Module):
    """Dropout, linear reduction, batch norm and ReLU before the classifier; the embedding is the input vector.

    Source: Sun, Zheng, Yang, Tian, Wang, "Beyond Part Models: Person Retrieval with Refined Part Pooling", ECCV 2018.
    The paper has one reduction per part; in Torchreid all parts share one.

    Args:
        in_features: Size of the pooled vector.
        dim: Size of the bottleneck.
        dropout: Dropout probability.
        normalized: Whether to scale the embedding of each part to unit length.

    Raises:
        ValueError: If `dropout` is not in [0, 1).
    """

    renames: ClassVar = {"conv5.": "neck.0."}

    def __init__(self, in_features: int, dim: int = 256, dropout: float = 0.5, normalized: bool = True) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"neck.dropout={dropout} is invalid: must be at least 0 and less than 1.")
        self.num_features, self.embedding_size = dim, in_features
        self.normalized = normalized
        self.dropout = nn.Dropout(dropout)
        # 1 x 1 convolutions instead of linear layers, as in the published weights.
        self.layers = nn.Sequential(nn.Conv2d(in_features, dim, 1, bias=False), nn.BatchNorm2d(dim), nn.ReLU())
        initialize(self)

    def forward(self, x: Tensor) -> NeckOutput:
        """Return embedding (B, C), feature (B, C) and bottleneck (B, dim) of vectors (B, C)."""
        bottleneck = self.layers(self.dropout(x)[:, :, None, None])[:, :, 0, 0]
        return NeckOutput(functional.normalize(x) if self.normalized else x, x, bottleneck)
