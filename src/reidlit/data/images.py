"""Dataset of images that turns samples into batches of tensors."""

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
    """Decoded and transformed example: an image, or the clips of a tracklet."""

    image: Array  # (H, W, 3) uint8, or (K, S, H, W, 3)
    pid: int
    camid: int
    dsetid: int
    index: int
    query: bool
    frame_mask: Array | None = None  # (K, S) bool; see `Batch`


class ImagesOptions(TypedDict, total=False):
    """Options of `Images`."""

    labels: dict[int, int] | None
    num_queries: int
    seed: int
    views: int
    read: Read


class Images(Dataset[Item]):
    """Dataset of images.

    Args:
        samples: Samples to read.
        transform: `Pipeline` that maps the decoded image to the final (H, W, 3) uint8 image.
        labels: Class labels by pid for training. `None` keeps the pids.
        num_queries: Number of queries; they are the first samples.
        seed: Random seed of the augmentation. The seed and the number of a draw determine every random choice, so a batch does
            not depend on the number of workers or on whether the run was resumed.
        views: Number of differently augmented examples per image in a training batch; they are adjacent.
        read: Function from a path to an (H, W, 3) uint8 RGB image.
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
        """Stack items to a batch of (B, 3, H, W) uint8 images, channels-last in memory for faster convolutions."""
        return collate(items, torch.from_numpy(np.stack([item.image for item in items])).permute(0, 3, 1, 2))

    def eval_batches(self, indices: Sequence[int], batch_size: int) -> Any:
        """Return the batch sampler of an evaluation.

        Args:
            indices: Indices of the samples of this rank.
            batch_size: Number of images in a batch.
        """
        return BatchSampler(indices, batch_size, drop_last=False)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw | int) -> Item:
        """Return one example. A plain index (evaluation) uses no random numbers."""
        return self._example(draw, None) if isinstance(draw, int) else self._example(draw.index, draw.number)

    def __getitems__(self, draws: Sequence[Draw | int]) -> list[Item]:
        """Return the examples of a batch, with the views of an image adjacent. `DataLoader` calls this method."""
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
        """Return a random image of the dataset, for augmentations that mix two images."""
        path = generator.choice(self.samples).path
        return self.read(path if isinstance(path, str) else generator.choice(path))

    def _image(self, sample: Sample, seed: int | None) -> tuple[Array, Array | None]:
        """Return the transformed image of a sample, and the frame mask of a tracklet."""
        if not isinstance(sample.path, str):
            raise ValueError(
                f"{sample.path[0]} is a frame of a tracklet, which cannot be read as one image. Use a video dataset."
            )
        return self.transform(self.read(sample.path), seed, self._donor), None


def collate(items: Sequence[Item], image: Tensor) -> Batch:
    """Return a batch of the given images and the labels of the items."""

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
