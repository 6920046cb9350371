"""The re-identification model: backbone, pooling, neck and classifier, and for tracklets a pooling over time."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reidlit.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone
from reidlit.models.neck import NeckOutput
from reidlit.models.output import ReIDOutput
from reidlit.models.temporal import TemporalAverage


class ReIDModel(nn.Module):
    """Replaceable parts, with the input normalisation that belongs to the weights.

    Args:
        backbone: image (B, 3, H, W) -> map (B, C, H', W'), or whatever its pooling reads. See `Backbone` for its optional
            attributes.
        pool: map -> a vector (B, C) for each of its `num_branches`.
        necks: vector -> `NeckOutput`, one a branch; a single one serves all branches.
        classifiers: bottleneck -> logits (B, num_classes), one a branch; a single one serves all branches.
        mean: of each channel, of images in 0 to 1.
        std: likewise.
        temporal: the frames of a clip -> one vector, see `reidlit.models.temporal`; one serves all branches. Images do not
            pass through it.
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
        """Whether embeddings depend on the camera, which then has to be given."""
        return bool(getattr(self.backbone, "uses_cameras", Backbone.uses_cameras))

    @property
    def embedding_size(self) -> int:
        """D, the size of the embedding."""
        return sum(self.feature_sizes)

    @property
    def feature_sizes(self) -> tuple[int, ...]:
        """D_i, the size of each branch's features, which joined are as large as the embedding."""
        necks: list[Any] = [self._of(self.neck, branch) for branch in range(self.pool.num_branches)]
        return tuple(int(neck.embedding_size) for neck in necks)

    def forward(self, image: Tensor, camid: Tensor | None = None, frame_mask: Tensor | None = None) -> ReIDOutput:
        """Embedding, features and logits of images or clips.

        Args:
            image: (B, 3, H, W) uint8, or float and normalised already; or clips (B, S, 3, H, W).
            camid: (B,) the camera of each, for a model that `uses_cameras`.
            frame_mask: (B, S) which frames of the clips are real; without it all are.
        """
        branches = self._branches(image, camid, frame_mask)
        logits = tuple(self._of(self.classifier, n)(branch.bottleneck) for n, branch in enumerate(branches))
        return ReIDOutput(self._joined(branches), tuple(branch.feature for branch in branches), logits)

    def embed(self, image: Tensor, camid: Tensor | None = None, frame_mask: Tensor | None = None) -> Tensor:
        """The (B, D) vectors that are compared at test time; those of several branches are joined. See `forward`."""
        return self._joined(self._branches(image, camid, frame_mask))

    def normalize(self, image: Tensor) -> Tensor:
        """Scale uint8 images to 0 to 1 and normalise them; float images pass."""
        if image.dtype != torch.uint8:
            return image
        # One multiplication and one addition: (x / 255 - mean) / std.
        return image * (1 / (255 * self.std)) - self.mean / self.std

    def _branches(self, image: Tensor, camid: Tensor | None, frame_mask: Tensor | None) -> list[NeckOutput]:
        if image.ndim == 4:
            return self._necks(self._vectors(image, camid))
        clips = image.shape[:2]
        each = None if camid is None else camid.repeat_interleave(clips[1])
        vectors = self._vectors(image.flatten(0, 1), each)
        if not self.temporal.after_neck:
            return self._necks([self.temporal(vector.reshape(*clips, -1), frame_mask) for vector in vectors])
        return [
            NeckOutput(*(self.temporal(part.reshape(*clips, -1), frame_mask) for part in branch))
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
        # One neck sees all branches at once, so that its batch norm has one set of statistics.
        outputs = self.neck[0](torch.cat(list(vectors)))
        return [NeckOutput(*branch) for branch in zip(*(each.chunk(len(vectors)) for each in outputs), strict=True)]

    def _joined(self, branches: Sequence[NeckOutput]) -> Tensor:
        if len(branches) == 1:
            return branches[0].embedding
        # After the necks: a batch norm would undo them in training, and not know of them in evaluation.
        weights = getattr(self.backbone, "branch_weights", Backbone.branch_weights) or (1.0,) * len(branches)
        return torch.cat([w * branch.embedding for w, branch in zip(weights, branches, strict=True)], dim=1)

    @staticmethod
    def _of(modules: nn.ModuleList, branch: int) -> nn.Module:
        return modules[branch if len(modules) > 1 else 0]
