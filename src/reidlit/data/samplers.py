"""Batch samplers: which samples make up which training batch, on which rank.

`batch_size` is the global one. The sequence of global batches depends on the seed and the epoch only; a rank takes its
share of every batch. So a run on four devices sees what a run on one sees. Give them to a loader as `batch_sampler`, and
switch off the samplers that Lightning would add: `Trainer(use_distributed_sampler=False)`.
"""

import math
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
                f"their number; take {_multiple(batch_size, world_size)}, say."
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
        rest = len(samples) % batch_size
        if not samples or (drop_last and len(samples) < batch_size):
            raise ValueError(
                f"batch_size={batch_size}, but there are {len(samples)} training samples: an epoch would have no batch. "
                "Lower data.batch_size, or set sampler.drop_last=false."
            )
        if not drop_last and rest % world_size:
            raise ValueError(
                f"drop_last=False leaves a last batch of {rest} samples, which {world_size} devices cannot share evenly; "
                "set sampler.drop_last=true, or choose another data.batch_size."
            )
        self.num_samples = len(samples)
        self.num_draws = len(samples) - rest if drop_last else len(samples)

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.permutation(self.num_samples)[: self.num_draws]


class IdentityBatches(EpochBatches):
    """Batches of P identities with K images each.

    Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", arXiv 2017. As in Torchreid, an epoch
    cuts every identity's shuffled images into groups of K and fills batches with groups of distinct identities, so that
    an identity with many images comes often. Torchreid draws until fewer than P identities are left, and cannot say
    beforehand when that will be. Here an epoch has the largest number of batches that the groups allow, always: an
    identity that would otherwise remain alone is drawn in time. The few groups beyond a full batch are left out, other
    ones in every epoch. An identity with fewer than K images gives one group, in which its images recur.

    Ranks take whole identities if `world_size` divides P.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        num_instances: int = 4,
    ) -> None:
        """Groups the samples by identity and counts the batches.

        Args:
            samples: The training list.
            batch_size: P x K, over all ranks together.
            seed: Of the order.
            rank: This process.
            world_size: Number of processes.
            num_instances: K, images of an identity in a batch.

        Raises:
            ValueError: A number is out of range, K does not divide the batch, or there are fewer than P identities.
        """
        super().__init__(batch_size, seed, rank, world_size)
        if num_instances < 1 or batch_size % num_instances:
            raise ValueError(
                f"num_instances={num_instances} must divide batch_size={batch_size}; take "
                f"data.batch_size={_multiple(batch_size, math.lcm(max(num_instances, 1), world_size))}, or another "
                "sampler.num_instances."
            )
        self.num_instances = num_instances
        self.num_identities = batch_size // num_instances  # P
        pids = np.array([sample.pid for sample in samples], dtype=np.int64)
        by_pid = np.argsort(pids, kind="stable")
        self._members = np.split(by_pid, np.flatnonzero(np.diff(pids[by_pid])) + 1) if samples else []
        if len(self._members) < self.num_identities:
            raise ValueError(
                f"batch_size={batch_size} with num_instances={num_instances} needs {self.num_identities} identities; "
                f"the training set has {len(self._members)}. Lower data.batch_size or raise sampler.num_instances."
            )
        groups = np.array([max(len(members) // num_instances, 1) for members in self._members])
        batches = int(groups.sum()) // self.num_identities
        # An identity comes once a batch at most. The bound falls until the groups that count under it fill it.
        while (fitting := int(np.minimum(groups, batches).sum()) // self.num_identities) < batches:
            batches = fitting
        self._groups = np.minimum(groups, batches)
        self._batches = batches
        self.num_draws = batches * batch_size

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        queues = [
            self._cut(members, int(count), rng) for members, count in zip(self._members, self._groups, strict=True)
        ]
        drawn = [queues[identity].pop() for batch in self._identities(rng) for identity in batch]
        return np.concatenate(drawn)

    def _cut(self, members: NDArray[np.int64], count: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Cuts an identity's images, shuffled, into `count` groups of K; too few images are repeated."""
        images = np.resize(rng.permutation(members), count * self.num_instances)
        return np.split(images, count)

    def _identities(self, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Yields the P distinct identities of every batch, in random order."""
        per_group = np.repeat(np.arange(len(self._groups)), self._groups)
        kept = rng.permutation(per_group)[: self._batches * self.num_identities]
        left = np.bincount(kept, minlength=len(self._groups))
        for batches_left in range(self._batches, 0, -1):
            # The smallest of exponential times at the rates `left` is a draw in proportion to `left`, without
            # replacement. Whoever has a group for every batch left must come now; there are never more than P of them.
            times = np.full(len(left), np.inf)
            times[left > 0] = rng.standard_exponential(np.count_nonzero(left)) / left[left > 0]
            times[left == batches_left] = -1.0
            chosen = np.argpartition(times, self.num_identities - 1)[: self.num_identities]
            left[chosen] -= 1
            yield rng.permutation(chosen)


def _multiple(number: int, of: int) -> int:
    """Returns the largest positive multiple that is not above `number`, or the smallest."""
    return max(number // of, 1) * of
