"""The re-identification model: backbone, pooling, neck and classifier."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reidlit.models.output import ReIDOutput

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ReIDModel(nn.Module):
    """Four replaceable parts, with the input normalisation that belongs to the weights.

    Args:
        backbone: image (B, 3, H, W) -> map (B, C, H', W').
        pool: map -> vector (B, C).
        neck: vector -> embedding (B, D); has `num_features` = D.
        classifier: embedding -> logits (B, num_classes).
        mean: of each channel, of images in 0 to 1.
        std: likewise.
    """

    def __init__(
        self,
        backbone: nn.Module,
        pool: nn.Module,
        neck: nn.Module,
        classifier: nn.Module,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = pool
        self.neck = neck
        self.classifier = classifier
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> ReIDOutput:
        """Embedding, features and logits of (B, 3, H, W) images: uint8, or float and normalised already."""
        embedding = self.embed(image)
        return ReIDOutput(embedding, (embedding,), (self.classifier(embedding),))

    def embed(self, image: Tensor) -> Tensor:
        """The (B, D) vectors that are compared at test time."""
        embedding: Tensor = self.neck(self.pool(self.backbone(self.normalize(image))))
        return embedding

    def normalize(self, image: Tensor) -> Tensor:
        """Scale uint8 images to 0 to 1 and normalise them; float images pass."""
        if image.dtype != torch.uint8:
            return image
        # One multiplication and one addition: (x / 255 - mean) / std.
        return image * (1 / (255 * self.std)) - self.mean / self.std
