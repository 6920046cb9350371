"""Networks from an image to a feature map, one architecture per file."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(Protocol):
    """A network as the other parts of a model see it.

    A backbone is any `nn.Module` with `num_features` and `forward`. It does not have to inherit from this class; the
    other attributes are optional, and one that is missing has the default given here.

    Attributes:
        num_features: Channels of the map, or size of the vectors, that `forward` returns.
        uses_cameras: Whether `forward` takes the cameras (B,) as a second argument, which must then be given.
        branch_weights: Factors of the branches' embeddings before these are joined; None for equal weights.
        mean: Mean of the training images per channel, in 0 to 1; a pretrained backbone has that of its weights.
        std: Standard deviation of the training images per channel.
        renames: Beginnings of tensor names in published weights, and what they are called in a `ReIDModel`. Necks may
            have it too.
        network: A network of timm inside; its `group_matcher` orders the layers for layer-wise learning-rate decay.
    """

    num_features: int
    uses_cameras: bool = False
    branch_weights: Sequence[float] | None = None
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    renames: ClassVar[Mapping[str, str]] = {}
    network: Any = None

    def __call__(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map normalised images (B, 3, H, W) to a map (B, C, H', W'), or to one or several vectors (B, C)."""
