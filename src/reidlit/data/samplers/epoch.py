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
    """Batch sampler that cuts an ordered list of draws, the epoch, into batches and yields one rank's part of each.

    A subclass is a dataclass that adds its options as fields and implements `_prepare` and `_order`.

    Args:
        samples: Training samples.
        batch_size: Number of samples in a batch over all ranks.
        seed: Random seed of the order.
        rank: Rank of this process.
        world_size: Number of processes.

    Attributes:
        epoch_size: Number of draws in an epoch over all ranks. It is the same in every epoch, so that the numbers of the
            draws are unique in a run.
        epoch: Epoch that the next iteration yields, counted from 0.

    Raises:
        ValueError: If a number is out of range, the ranks cannot split the batches evenly, or an epoch has no batches.

    Example:
        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> from reidlit.data.sample import Sample
        >>> from reidlit.data.samplers import EpochBatches
        >>> @dataclass(eq=False, repr=False)
        ... class ReversedBatches(EpochBatches):
        ...     def _prepare(self, samples):
        ...         return len(samples) // self.batch_size * self.batch_size
        ...     def _order(self, rng):
        ...         return np.arange(self.epoch_size)[::-1]
        >>> samples = [Sample(f"{pid}.jpg", pid, camid=0) for pid in range(4)]
        >>> [[draw.index for draw in batch] for batch in ReversedBatches(samples, batch_size=2, seed=0)]
        [[3, 2], [1, 0]]
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
                f"rank={self.rank} with world_size={self.world_size} is invalid: rank must be from 0 to world_size - 1."
            )
        if self.batch_size < 1 or self.batch_size % self.world_size:
            raise ValueError(
                f"batch_size={self.batch_size} is invalid: it counts the samples of all {self.world_size} devices and must be "
                f"a positive multiple of that number. Use {multiple(self.batch_size, self.world_size)}, for example."
            )
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} is invalid: must be at least 0.")
        self.epoch_size = self._prepare(samples)

    @property
    def sampler(self) -> Self:
        """This object, because Lightning calls `set_epoch` on `batch_sampler.sampler` only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration yields. Without it, every iteration yields the same batches.

        Args:
            epoch: Number of the epoch, counted from 0.

        Raises:
            ValueError: If `epoch` is negative.
        """
        if epoch < 0:
            raise ValueError(f"epoch={epoch} is invalid: must be at least 0.")
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.epoch_size / self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self._order(np.random.default_rng([self.seed, self.epoch])).tolist()
        first = self.epoch * self.epoch_size
        for start in range(0, self.epoch_size, self.batch_size):
            size = (min(start + self.batch_size, self.epoch_size) - start) // self.world_size
            positions = range(start + self.rank * size, start + (self.rank + 1) * size)
            yield [Draw(order[position], first + position) for position in positions]

    def _prepare(self, samples: Sequence[Sample]) -> int:
        """Check the options, group the samples and return the number of draws in an epoch."""
        raise NotImplementedError

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the (epoch_size,) sample indices of an epoch, batch after batch."""
        raise NotImplementedError


def multiple(number: int, of: int) -> int:
    """Return the largest positive multiple of `of` that is at most `number`, or `of` if there is none."""
    return max(number // of, 1) * of
