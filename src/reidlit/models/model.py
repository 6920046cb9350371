"""The re-identification model: backbone, temporal pooling for tracklets, neck and classifier."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reidlit.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone
from reidlit.models.neck import NeckOutput
from reidlit.models.output import ReIDOutput
from reidlit.models.temporal import TemporalAverage


class ReIDModel(nn.Module):
    """Re-identification model of exchangeable components, with the image normalization of its weights.

    Args:
        backbone: Network that maps images (B, 3, H, W) to feature maps (B, C, H', W'), or to any other input of `pool`.
            See `Backbone` for optional attributes.
        pool: Pooling that returns a vector (B, C) for each of its `num_branches` branches.
        necks: One neck per branch, or one for all branches; a neck maps a vector to a `NeckOutput`.
        classifiers: One classifier per branch, or one for all branches; a classifier maps a bottleneck to logits
            (B, num_classes).
        mean: Mean of the images per channel, in [0, 1].
        std: Standard deviation of the images per channel.
        temporal: Pooling over the frames of a clip, see `reidlit.models.temporal`. All branches share it, and single
            images skip it. Default: the mean.
    """

    def __init__(
        self,
        backbone: nn.Module,
        pool: Any,
        necks: Iterable[nn.Module],
        classifiers: Iterable[nn.Module],
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        temporal: Any = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = pool
        self.temporal = TemporalAverage() if temporal is None else temporal
        self.neck = nn.ModuleList(necks)
        self.classifier = nn.ModuleList(classifiers)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    @property
    def uses_cameras(self) -> bool:
        """Whether embeddings depend on the camera, which must then be passed."""
        return bool(getattr(self.backbone, "uses_cameras", Backbone.uses_cameras))

    @property
    def embedding_size(self) -> int:
        """Size D of the embedding."""
        return sum(self.feature_sizes)

    @property
    def feature_sizes(self) -> tuple[int, ...]:
        """Size of the features of each branch; the sizes add up to the embedding size."""
        necks: list[Any] = [self._for_branch(self.neck, branch) for branch in range(self.pool.num_branches)]
        return tuple(int(neck.embedding_size) for neck in necks)

    def forward(self, image: Tensor, camid: Tensor | None = None, frame_mask: Tensor | None = None) -> ReIDOutput:
        """Return the embedding, features and logits of images or clips.

        Args:
            image: Images (B, 3, H, W), uint8, or float if already normalized; or clips (B, S, 3, H, W).
            camid: Camera of each image or clip (B,), required if the model `uses_cameras`.
            frame_mask: Boolean mask (B, S) of real frames; the others are padding. Default: all frames are real.
        """
        branches = self._branches(image, camid, frame_mask)
        logits = tuple(self._for_branch(self.classifier, n)(branch.bottleneck) for n, branch in enumerate(branches))
        return ReIDOutput(self._join(branches), tuple(branch.feature for branch in branches), logits)

    def embed(self, image: Tensor, camid: Tensor | None = None, frame_mask: Tensor | None = None) -> Tensor:
        """Return the embeddings (B, D) that are compared at test time, all branches concatenated. See `forward`."""
        return self._join(self._branches(image, camid, frame_mask))

    def normalize(self, image: Tensor) -> Tensor:
        """Scale uint8 images to [0, 1] and normalize them; return float images unchanged."""
        if image.dtype != torch.uint8:
            return image
        # Equal to (x / 255 - mean) / std, with one multiplication and one subtraction.
        return image * (1 / (255 * self.std)) - self.mean / self.std

    def _branches(self, image: Tensor, camid: Tensor | None, frame_mask: Tensor | None) -> list[NeckOutput]:
        if image.ndim == 4:
            return self._necks(self._vectors(image, camid))
        shape = image.shape[:2]
        each = None if camid is None else camid.repeat_interleave(shape[1])
        vectors = self._vectors(image.flatten(0, 1), each)
        if not self.temporal.after_neck:
            return self._necks([self.temporal(vector.reshape(*shape, -1), frame_mask) for vector in vectors])
        return [
            NeckOutput(*(self.temporal(vector.reshape(*shape, -1), frame_mask) for vector in branch))
            for branch in self._necks(vectors)
        ]

    def _vectors(self, image: Tensor, camid: Tensor | None) -> Sequence[Tensor]:
        image = self.normalize(image)
        vectors: Sequence[Tensor] = self.pool(
            self.backbone(image, camid) if self.uses_cameras else self.backbone(image)
        )
        return vectors

    def _necks(self, vectors: Sequence[Tensor]) -> list[NeckOutput]:
        if len(self.neck) == len(vectors):
            return [neck(vector) for neck, vector in zip(self.neck, vectors, strict=True)]
        # A shared neck processes all branches at once, so that its batch norm has one set of statistics.
        outputs = self.neck[0](torch.cat(list(vectors)))
        return [NeckOutput(*branch) for branch in zip(*(each.chunk(len(vectors)) for each in outputs), strict=True)]

    def _join(self, branches: Sequence[NeckOutput]) -> Tensor:
        if len(branches) == 1:
            return branches[0].embedding
        # Weights apply after the necks: a batch norm would remove them in training.
        weights = getattr(self.backbone, "branch_weights", Backbone.branch_weights) or (1.0,) * len(branches)
        return torch.cat([w * branch.embedding for w, branch in zip(weights, branches, strict=True)], dim=1)

    @staticmethod
    def _for_branch(modules: nn.ModuleList, branch: int) -> nn.Module:
        return modules[branch if len(modules) > 1 else 0]
