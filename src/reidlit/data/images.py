"""From listed samples to batches of tensors."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from reidlit.data.decode import decode
from reidlit.data.sample import Batch, Draw, Sample

Array = np.ndarray
Transform = Callable[[Array, int | None, Callable[[random.Random], Array] | None], Array]


@dataclass(frozen=True, slots=True)
class Item:
    """One decoded and transformed example."""

    image: Array  # (H, W, 3) uint8
    pid: int
    camid: int
    dsetid: int
    index: int
    query: bool


class Images(Dataset[Item]):
    """Samples as images.

    Args:
        samples: what to read.
        transform: `Pipeline` from the decoded to the final (H, W, 3) uint8 image.
        labels: pid -> class label in training; `None` leaves pids as they are.
        num_queries: how many of the first samples are queries.
        seed: of the augmentation. With the number of a draw it decides every random choice, so that neither the number
            of workers nor a resumed run changes a batch.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: Transform,
        labels: dict[int, int] | None = None,
        num_queries: int = 0,
        seed: int = 0,
    ) -> None:
        self.samples = samples
        self.transform = transform
        self.labels = labels
        self.num_queries = num_queries
        self.seed = seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw | int) -> Item:
        """Make one example; a plain index (evaluation) draws no random numbers."""
        index, seed = (draw, None) if isinstance(draw, int) else (draw.index, (self.seed << 40) + draw.number)
        sample = self.samples[index]
        image = self.transform(self._read(sample), seed, self._donor)
        pid = sample.pid if self.labels is None else self.labels[sample.pid]
        return Item(image, pid, sample.camid, sample.dsetid, index, index < self.num_queries)

    def _donor(self, generator: random.Random) -> Array:
        """Another image of the same set, for augmentations that mix two."""
        return self._read(generator.choice(self.samples))

    @staticmethod
    def _read(sample: Sample) -> Array:
        if not isinstance(sample.path, str):
            raise ValueError(f"{sample.path[0]}: a tracklet cannot be read as one image; use a video dataset.")
        return decode(sample.path)


def collate(items: Sequence[Item]) -> Batch:
    """Stack items; images become (B, 3, H, W) uint8 with channels last in memory, as convolutions like them."""

    def column(name: str) -> Tensor:
        return torch.tensor([getattr(item, name) for item in items])

    return Batch(
        image=torch.from_numpy(np.stack([item.image for item in items])).permute(0, 3, 1, 2),
        pid=column("pid"),
        camid=column("camid"),
        dsetid=column("dsetid"),
        index=column("index"),
        query=column("query"),
    )
