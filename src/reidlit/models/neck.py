"""Necks, which connect the pooled vector of a branch to its classifier.

A neck has `num_features`, the input size of the classifier, and `embedding_size`, the size of the embedding.
"""

from typing import ClassVar, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from reidlit.models.layers import initialize


class NeckOutput(NamedTuple):
    """Output of a neck.

    Attributes:
        embedding: Vector (B, E) that is compared at test time.
        feature: Vector (B, F) for metric losses.
        bottleneck: Vector (B, D) for the classifier.
    """

    embedding: Tensor
    feature: Tensor
    bottleneck: Tensor


class NoNeck(nn.Module):
    """Identity neck: the pooled vector serves as embedding, feature and bottleneck.

    Args:
        in_features: Size of the pooled vector.
        normalized: Whether to scale the embedding to unit length.
    """

    def __init__(self, in_features: int, normalized: bool = False) -> None:
        super().__init__()
        self.num_features = self.embedding_size = in_features
        self.normalized = normalized

    def forward(self, x: Tensor) -> NeckOutput:
        """Return the vectors (B, C) as embedding, feature and bottleneck."""
        return NeckOutput(functional.normalize(x) if self.normalized else x, x, x)


class FCNeck(nn.Sequential):
    """Linear layer, batch norm and ReLU, as in OSNet and `resnet50_fc512`.

    Args:
        in_features: Size of the pooled vector.
        dim: Size of the embedding.
        normalized: Whether to scale the embedding to unit length.
    """

    renames: ClassVar = {"fc.": "neck.0."}

    def __init__(self, in_features: int, dim: int = 512, normalized: bool = False) -> None:
        super().__init__(nn.Linear(in_features, dim), nn.BatchNorm1d(dim), nn.ReLU())
        self.num_features = self.embedding_size = dim
        self.normalized = normalized
        initialize(self)

    def forward(self, x: Tensor) -> NeckOutput:
        """Return embedding, feature and bottleneck (B, dim) of vectors (B, C)."""
        for layer in self:
            x = layer(x)
        return NeckOutput(functional.normalize(x) if self.normalized else x, x, x)


class BNNeck(nn.Module):
    """Batch norm without bias (BNNeck): metric losses use its input, the classifier its output.

    Source: Luo, Gu, Liao, Lai, Jiang, "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPR
    Workshops 2019.

    Args:
        in_features: Size of the pooled vector.
        test: Whether the vector "before" or "after" the batch norm is the embedding.

    Raises:
        ValueError: If `test` is invalid.
    """

    renames: ClassVar = {"heads.bottleneck.0.": "neck.0.bn."}  # name in fast-reid

    def __init__(self, in_features: int, test: str = "after") -> None:
        super().__init__()
        if test not in ("before", "after"):
            raise ValueError(f"neck.test={test!r} is invalid: must be 'before' or 'after' (the batch norm).")
        self.num_features = self.embedding_size = in_features
        self.after = test == "after"
        self.bn = nn.BatchNorm1d(in_features)
        self.bn.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> NeckOutput:
        """Return embedding, feature and bottleneck (B, C) of vectors (B, C)."""
        normed = self.bn(x)
        return NeckOutput(normed if self.after else x, x, normed)
