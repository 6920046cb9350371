"""Backbones, which map images to feature maps or vectors; one architecture per file."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(Protocol):
    """Interface of a backbone.

    A backbone is any `nn.Module` with `num_features` and `forward`. It does not have to inherit from this class. The
    other attributes are optional and default to the values below.

    Attributes:
        num_features: Number of channels of the map, or size of the vectors, that `forward` returns.
        uses_cameras: Whether `forward` requires the cameras (B,) as its second argument.
        branch_weights: Factors for the embeddings of the branches before concatenation; None for equal weights.
        mean: Mean of the training images per channel, in [0, 1]. A pretrained backbone has the values of its weights.
        std: Standard deviation of the training images per channel.
        renames: Prefixes of tensor names in published weights, and their replacements in a `ReIDModel`. Necks may have
            this attribute too.
        network: Wrapped timm network. Its `group_matcher` orders the layers for layer-wise learning-rate decay.
    """

    num_features: int
    uses_cameras: bool = False
    branch_weights: Sequence[float] | None = None
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    renames: ClassVar[Mapping[str, str]] = {}
    network: Any = None

    def __call__(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map normalized images (B, 3, H, W) to a map (B, C, H', W'), or to one or several vectors (B, C)."""
