"""Base class of the batch samplers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from reidlit.data.sample import Draw, Sample


@dataclass(eq=False, repr=False)
class EpochBatches(Sampler[list[Draw]]):
    """Cuts an epoch, an ordered list of draws, into batches and yields one rank's part of each.

    A subclass is a dataclass that adds its options as fields and implements `_prepare` and `_order`.

    Args:
        samples: Training samples.
        batch_size: Size of a batch over all ranks together.
        seed: Seed of the order.
        rank: Rank of this process.
        world_size: Number of processes.

    Attributes:
        epoch_size: Number of draws of an epoch over all ranks, equal in every epoch, so that the numbers of draws are unique.
        epoch: Epoch that the next iteration draws, counted from 0.

    Raises:
        ValueError: If a number is out of range, the ranks cannot share the batches evenly, or an epoch has no batch.
    """

    samples: InitVar[Sequence[Sample]]
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    epoch_size: int = field(init=False)
    epoch: int = field(init=False, default=0)

    def __post_init__(self, samples: Sequence[Sample]) -> None:
        if self.world_size < 1 or not 0 <= self.rank < self.world_size:
            raise ValueError(
                f"rank={self.rank} and world_size={self.world_size}: a rank lies between 0 and world_size - 1."
            )
        if self.batch_size < 1 or self.batch_size % self.world_size:
            raise ValueError(
                f"batch_size={self.batch_size} is the size over all {self.world_size} devices and must be a positive "
                f"multiple of their number; take {multiple(self.batch_size, self.world_size)}, say."
            )
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must be 0 or more.")
        self.epoch_size = self._prepare(samples)

    @property
    def sampler(self) -> Self:
        """This object: Lightning calls `set_epoch` on `batch_sampler.sampler` only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0, that the next iteration draws; without it every iteration is the same."""
        if epoch < 0:
            raise ValueError(f"epoch={epoch} must be 0 or more.")
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.epoch_size / self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self._order(np.random.default_rng([self.seed, self.epoch])).tolist()
        first = self.epoch * self.epoch_size
        for start in range(0, self.epoch_size, self.batch_size):
            share = (min(start + self.batch_size, self.epoch_size) - start) // self.world_size
            mine = range(start + self.rank * share, start + (self.rank + 1) * share)
            yield [Draw(order[position], first + position) for position in mine]

    def _prepare(self, samples: Sequence[Sample]) -> int:
        """Check the options, group the samples and return the size of an epoch."""
        raise NotImplementedError

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw an epoch: (epoch_size,) indices into the samples, batch after batch."""
        raise NotImplementedError


def multiple(number: int, of: int) -> int:
    """Return the largest positive multiple of `of` that is not above `number`, or `of` if there is none."""
    return max(number // of, 1) * of
