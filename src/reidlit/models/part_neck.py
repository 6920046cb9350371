"""The neck of PCB."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from reidlit.models.layers import initialize
from reidlit.models.neck import NeckOutput


class PartNeck(nn.Module):
    """Dropout, a linear reduction, batch norm and ReLU before the classifier; the vector before them is compared.

    Source: Sun, Zheng, Yang, Tian, Wang, "Beyond Part Models: Person Retrieval with Refined Part Pooling", ECCV 2018,
    where each part has its own; Torchreid's parts share one.

    Args:
        in_features: size of the vector.
        dim: size of what the classifier reads.
        dropout: share of the vector's entries that training leaves out.
        normalized: whether the embedding of each part is scaled to unit length.

    Raises:
        ValueError: if the dropout is not at least 0 and below 1.
    """

    renames: ClassVar = {"conv5.": "neck.0."}

    def __init__(self, in_features: int, dim: int = 256, dropout: float = 0.5, normalized: bool = True) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"neck.dropout={dropout} must be at least 0 and below 1.")
        self.num_features, self.embedding_size = dim, in_features
        self.normalized = normalized
        self.dropout = nn.Dropout(dropout)
        # Convolutions of one position, as in the published weights.
        self.layers = nn.Sequential(nn.Conv2d(in_features, dim, 1, bias=False), nn.BatchNorm2d(dim), nn.ReLU())
        initialize(self)

    def forward(self, x: Tensor) -> NeckOutput:
        """(B, C) -> embedding (B, C), feature (B, C) and bottleneck (B, dim)."""
        bottleneck = self.layers(self.dropout(x)[:, :, None, None])[:, :, 0, 0]
        return NeckOutput(functional.normalize(x) if self.normalized else x, x, bottleneck)
