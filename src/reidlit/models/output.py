"""Output of re-identification models."""

from typing import NamedTuple

from torch import Tensor


class ReIDOutput(NamedTuple):
    """Output of a model, with the same fields in training and evaluation.

    Attributes:
        embedding: Embeddings (B, D) that are compared at test time.
        features: Vectors (B, D_i) for metric losses, one per branch.
        logits: Logits (B, num_classes) for classification losses, one per branch.
    """

    embedding: Tensor
    features: tuple[Tensor, ...]
    logits: tuple[Tensor, ...]
