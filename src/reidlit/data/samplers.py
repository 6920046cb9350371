"""Batch samplers: which samples make up which training batch, on which rank.

`batch_size` is the global one. The sequence of global batches depends on the seed and the epoch only; a rank takes its
share of every batch. So a run on four devices sees what a run on one sees. Give them to a loader as `batch_sampler`, and
switch off the samplers that Lightning would add: `Trainer(use_distributed_sampler=False)`.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from reidlit.data.sample import Draw, Sample


class EpochBatches(Sampler[list[Draw]]):
    """Cuts an epoch, an order of all its draws, into batches and takes one rank's share of each.

    A subclass implements `_order` and sets `num_draws`.
    """

    num_draws: int  # in an epoch, over all ranks; the same in every epoch, which makes the draws' numbers unique

    def __init__(self, batch_size: int, seed: int, rank: int, world_size: int) -> None:
        """Checks the arguments that all batch samplers share."""
        super().__init__()
        if world_size < 1 or not 0 <= rank < world_size:
            raise ValueError(f"rank={rank} and world_size={world_size}: a rank lies between 0 and world_size - 1.")
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"batch_size={batch_size} is the size over all {world_size} devices and must be a positive multiple of "
                f"their number; take {multiple(batch_size, world_size)}, say."
            )
        if seed < 0:
            raise ValueError(f"seed={seed} must be 0 or more.")
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    @property
    def sampler(self) -> Self:
        """This object: Lightning calls `set_epoch` on `batch_sampler.sampler` only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, counted from 0, that the next iteration draws; without it every iteration is the same."""
        if epoch < 0:
            raise ValueError(f"epoch={epoch} must be 0 or more.")
        self.epoch = epoch

    def __len__(self) -> int:
        """Returns the exact number of batches of an epoch."""
        return math.ceil(self.num_draws / self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yields this rank's share of every batch of the epoch."""
        order = self._order(np.random.default_rng([self.seed, self.epoch])).tolist()
        first = self.epoch * self.num_draws
        for start in range(0, self.num_draws, self.batch_size):
            share = (min(start + self.batch_size, self.num_draws) - start) // self.world_size
            mine = range(start + self.rank * share, start + (self.rank + 1) * share)
            yield [Draw(order[position], first + position) for position in mine]

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draws an epoch: (num_draws,) indices into the samples, batch after batch."""
        raise NotImplementedError


class RandomBatches(EpochBatches):
    """Shuffled epochs, every sample at most once in each."""

    def __init__(
        self,
        samples: Sequence[Sample],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = True,
    ) -> None:
        """Counts the batches.

        Args:
            samples: The training list.
            batch_size: Over all ranks together.
            seed: Of the order.
            rank: This process.
            world_size: Number of processes.
            drop_last: Leave out the samples, other ones in every epoch, that do not fill a batch.

        Raises:
            ValueError: A number is out of range, the ranks cannot share the batches evenly, or there is no full batch.
        """
        super().__init__(batch_size, seed, rank, world_size)
        self.num_samples = len(samples)
        self.num_draws = _kept(len(samples), batch_size, world_size, drop_last)

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.permutation(self.num_samples)[: self.num_draws]


class SequentialBatches(EpochBatches):
    """The samples in the order in which they are listed, the same in every epoch."""

    def __init__(
        self,
        samples: Sequence[Sample],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        """Counts the batches.

        Args:
            samples: The training list.
            batch_size: Over all ranks together.
            seed: Taken as all samplers take it; the order does not depend on it.
            rank: This process.
            world_size: Number of processes.
            drop_last: Leave out the last samples if they do not fill a batch.

        Raises:
            ValueError: A number is out of range, the ranks cannot share the batches evenly, or there is no full batch.
        """
        super().__init__(batch_size, seed, rank, world_size)
        self.num_draws = _kept(len(samples), batch_size, world_size, drop_last)

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        del rng
        return np.arange(self.num_draws)


def _kept(num_samples: int, batch_size: int, world_size: int, drop_last: bool) -> int:
    """Returns how many of the samples an epoch has if each comes once at most.

    Raises:
        ValueError: There is no batch, or the ranks cannot share the last one evenly.
    """
    rest = num_samples % batch_size
    if not num_samples or (drop_last and num_samples < batch_size):
        raise ValueError(
            f"batch_size={batch_size}, but there are {num_samples} training samples: an epoch would have no batch. "
            "Lower data.batch_size, or set sampler.drop_last=false."
        )
    if not drop_last and rest % world_size:
        raise ValueError(
            f"drop_last=False leaves a last batch of {rest} samples, which {world_size} devices cannot share evenly; "
            "set sampler.drop_last=true, or choose another data.batch_size."
        )
    return num_samples - rest if drop_last else num_samples


def distinct_batches(counts: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws batches of distinct things, each thing into as many batches as its count says.

    A batch is drawn without replacement, in proportion to what is left of the counts, except that a thing which every
    batch still to come must have is taken first; so the draw never fails. Linear in the sum of the counts.

    Args:
        counts: (N,), none above the number of batches, which is their sum over `size`.
        size: Of a batch.
        rng: Is moved.

    Returns:
        (batches, size) numbers of things, 0 to N - 1, in random order in each batch.
    """
    tickets = np.repeat(np.arange(len(counts)), counts).tolist()
    left = counts.tolist()
    by_left: dict[int, dict[int, None]] = defaultdict(dict)
    for thing, count in enumerate(left):
        by_left[count][thing] = None
    uniform = _uniform(rng)
    forced: dict[int, None] = {}  # once a thing must come in every batch left, it must to the end
    batches = []
    for batches_left in range(len(tickets) // size, 0, -1):
        forced |= by_left.pop(batches_left, {})
        batch = forced.copy()
        while len(batch) < size:
            place = int(next(uniform) * len(tickets))
            thing = tickets[place]
            if thing in batch and thing not in forced:
                continue
            tickets[place] = tickets[-1]  # the ticket is used, or nobody asks for a forced thing's any more
            tickets.pop()
            if thing not in forced:
                batch[thing] = None
                del by_left[left[thing]][thing]
                left[thing] -= 1
                by_left[left[thing]][thing] = None
        batches.append(list(batch))
    return rng.permuted(np.array(batches, dtype=np.int64), axis=1)


def _uniform(rng: np.random.Generator) -> Iterator[float]:
    """Yields numbers between 0 and 1, drawn in blocks for speed."""
    while True:
        yield from rng.random(4096).tolist()


def multiple(number: int, of: int) -> int:
    """Returns the largest positive multiple that is not above `number`, or the smallest."""
    return max(number // of, 1) * of


def starts(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns where each of several runs begins that lie one after the other."""
    return np.cumsum(sizes) - sizes


def within(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns 0, 1, ... within each of several runs that lie one after the other."""
    return np.arange(sizes.sum()) - np.repeat(starts(sizes), sizes)
