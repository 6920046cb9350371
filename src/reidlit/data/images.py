"""From listed samples to batches of tensors."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset

from reidlit.data.decode import decode
from reidlit.data.sample import Batch, Draw, Sample

Array = np.ndarray
Read = Callable[[str], Array]
Transform = Callable[[Array, int | None, Callable[[random.Random], Array] | None], Array]


@dataclass(frozen=True, slots=True)
class Item:
    """One decoded and transformed example: an image, or the clips of a tracklet."""

    image: Array  # (H, W, 3) uint8, or (K, S, H, W, 3)
    pid: int
    camid: int
    dsetid: int
    index: int
    query: bool
    frame_mask: Array | None = None  # (K, S) bool; see `Batch`


class ImagesOptions(TypedDict, total=False):
    """The options of `Images`."""

    labels: dict[int, int] | None
    num_queries: int
    seed: int
    views: int
    read: Read


class Images(Dataset[Item]):
    """Samples as images.

    Args:
        samples: what to read.
        transform: `Pipeline` from the decoded to the final (H, W, 3) uint8 image.
        labels: pid -> class label in training; `None` leaves pids as they are.
        num_queries: how many of the first samples are queries.
        seed: of the augmentation. With the number of a draw it decides every random choice, so that neither the number
            of workers nor a resumed run changes a batch.
        views: how many differently augmented examples of each image a training batch holds, one after the other.
        read: path -> (H, W, 3) uint8 RGB.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: Transform,
        labels: dict[int, int] | None = None,
        num_queries: int = 0,
        seed: int = 0,
        views: int = 1,
        read: Read = decode,
    ) -> None:
        self.samples = samples
        self.transform = transform
        self.labels = labels
        self.num_queries = num_queries
        self.seed = seed
        self.views = views
        self.read = read

    @staticmethod
    def collate(items: Sequence[Item]) -> Batch:
        """Stack items; images become (B, 3, H, W) uint8 with channels last in memory, as convolutions like them."""
        return collate(items, torch.from_numpy(np.stack([item.image for item in items])).permute(0, 3, 1, 2))

    def eval_batches(self, share: Sequence[int], batch_size: int) -> Any:
        """The batch sampler of an evaluation.

        Args:
            share: the samples of this rank.
            batch_size: images that go through the model at once.
        """
        return BatchSampler(share, batch_size, drop_last=False)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw | int) -> Item:
        """Make one example; a plain index (evaluation) draws no random numbers."""
        return self._example(draw, None) if isinstance(draw, int) else self._example(draw.index, draw.number)

    def __getitems__(self, draws: Sequence[Draw | int]) -> list[Item]:
        """Make a batch's examples, all views of an image one after the other; the loader calls this where it can."""
        if self.views == 1:
            return [self[draw] for draw in draws]
        return [
            self._example(draw.index, draw.number * self.views + view)
            for draw in draws
            if isinstance(draw, Draw)
            for view in range(self.views)
        ]

    def _example(self, index: int, number: int | None) -> Item:
        sample = self.samples[index]
        seed = None if number is None else (self.seed << 40) + number
        image, frame_mask = self._image(sample, seed)
        pid = sample.pid if self.labels is None else self.labels[sample.pid]
        return Item(image, pid, sample.camid, sample.dsetid, index, index < self.num_queries, frame_mask)

    def _donor(self, generator: random.Random) -> Array:
        """Another image of the same set, for augmentations that mix two."""
        path = generator.choice(self.samples).path
        return self.read(path if isinstance(path, str) else generator.choice(path))

    def _image(self, sample: Sample, seed: int | None) -> tuple[Array, Array | None]:
        """What `Item` holds of a sample: the image, and of a tracklet which frames are real."""
        if not isinstance(sample.path, str):
            raise ValueError(f"{sample.path[0]}: a tracklet cannot be read as one image; use a video dataset.")
        return self.transform(self.read(sample.path), seed, self._donor), None


def collate(items: Sequence[Item], image: Tensor) -> Batch:
    """What comes with the images of a batch, item by item."""

    def column(name: str) -> Tensor:
        return torch.tensor([getattr(item, name) for item in items])

    return Batch(
        image=image,
        pid=column("pid"),
        camid=column("camid"),
        dsetid=column("dsetid"),
        index=column("index"),
        query=column("query"),
    )
