"""Between the pooled vector and the classifier, for each branch of a model.

A neck has `num_features`, what the classifier reads, and `embedding_size`, what is compared at test time.
"""

from typing import ClassVar, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from reidlit.models.layers import initialize


class NeckOutput(NamedTuple):
    """What a neck makes of a vector (B, C).

    Attributes:
        embedding: (B, E) what is compared at test time.
        feature: (B, F) what metric losses read.
        bottleneck: (B, D) what the classifier reads.
    """

    embedding: Tensor
    feature: Tensor
    bottleneck: Tensor


class NoNeck(nn.Module):
    """The pooled vector as it is.

    Args:
        in_features: size of the vector.
        normalized: whether the embedding is scaled to unit length.
    """

    def __init__(self, in_features: int, normalized: bool = False) -> None:
        super().__init__()
        self.num_features = self.embedding_size = in_features
        self.normalized = normalized

    def forward(self, x: Tensor) -> NeckOutput:
        """(B, C) -> three times the same."""
        return NeckOutput(functional.normalize(x) if self.normalized else x, x, x)


class FCNeck(nn.Sequential):
    """A linear layer, batch norm and ReLU, as in OSNet and `resnet50_fc512`.

    Args:
        in_features: size of the vector.
        dim: size of the embedding.
        normalized: whether the embedding is scaled to unit length.
    """

    renames: ClassVar = {"fc.": "neck.0."}

    def __init__(self, in_features: int, dim: int = 512, normalized: bool = False) -> None:
        super().__init__(nn.Linear(in_features, dim), nn.BatchNorm1d(dim), nn.ReLU())
        self.num_features = self.embedding_size = dim
        self.normalized = normalized
        initialize(self)

    def forward(self, x: Tensor) -> NeckOutput:
        """(B, C) -> three times the same (B, dim)."""
        for layer in self:
            x = layer(x)
        return NeckOutput(functional.normalize(x) if self.normalized else x, x, x)


class BNNeck(nn.Module):
    """Batch norm without bias: metric losses read the vector before it, the classifier the one after it.

    Source: Luo, Gu, Liao, Lai, Jiang, "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPR
    Workshops 2019.

    Args:
        in_features: size of the vector.
        test: whether the vector "before" or "after" the norm is the embedding.

    Raises:
        ValueError: if `test` is neither.
    """

    renames: ClassVar = {"heads.bottleneck.0.": "neck.0.bn."}  # fast-reid's

    def __init__(self, in_features: int, test: str = "after") -> None:
        super().__init__()
        if test not in ("before", "after"):
            raise ValueError(f"neck.test={test!r} must be 'before' or 'after' (the batch norm).")
        self.num_features = self.embedding_size = in_features
        self.after = test == "after"
        self.bn = nn.BatchNorm1d(in_features)
        self.bn.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> NeckOutput:
        """(B, C) -> three vectors (B, C)."""
        normed = self.bn(x)
        return NeckOutput(normed if self.after else x, x, normed)
