"""Batch samplers of P identities with K images each."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reidlit.data.sample import Sample
from reidlit.data.samplers import EpochBatches, distinct_batches, multiple, starts, within


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
                f"data.batch_size={multiple(batch_size, math.lcm(max(num_instances, 1), world_size))}, or another "
                "sampler.num_instances."
            )
        self.num_instances = num_instances
        self.num_identities = batch_size // num_instances  # P
        _, self._identity, self._sizes = np.unique(
            np.array([sample.pid for sample in samples], dtype=np.int64), return_inverse=True, return_counts=True
        )
        if len(self._sizes) < self.num_identities:
            raise ValueError(
                f"batch_size={batch_size} with num_instances={num_instances} needs {self.num_identities} identities; "
                f"the training set has {len(self._sizes)}. Lower data.batch_size or raise sampler.num_instances."
            )
        groups = np.maximum(self._sizes // num_instances, 1)
        batches = int(groups.sum()) // self.num_identities
        # An identity comes once a batch at most. The bound falls until the groups that count under it fill it.
        while (fitting := int(np.minimum(groups, batches).sum()) // self.num_identities) < batches:
            batches = fitting
        self._groups = np.minimum(groups, batches)
        self.num_draws = batches * batch_size

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        groups = self._cut(rng)
        one_a_group = np.repeat(np.arange(len(self._groups)), self._groups)
        kept = rng.permutation(one_a_group)[: self.num_draws // self.num_instances]
        identities = distinct_batches(np.bincount(kept, minlength=len(self._groups)), self.num_identities, rng).ravel()
        # The n-th time that an identity comes, it brings its n-th group.
        taken = np.empty_like(identities)
        taken[np.argsort(identities, kind="stable")] = within(np.bincount(identities, minlength=len(self._groups)))
        order: NDArray[np.int64] = groups[starts(self._groups)[identities] + taken].ravel()
        return order

    def _cut(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Cuts every identity's shuffled images into its groups: (sum of `_groups`, K), identity after identity."""
        shuffled = np.lexsort((rng.random(len(self._identity)), self._identity))
        identities = np.repeat(np.arange(len(self._groups)), self._groups)
        first = within(self._groups) * self.num_instances
        place = (first[:, None] + np.arange(self.num_instances)) % self._sizes[identities, None]
        groups: NDArray[np.int64] = shuffled[starts(self._sizes)[identities, None] + place]
        return groups


class CameraIdentityBatches(IdentityBatches):
    """Batches of P identities with K images each, from as many cameras as possible.

    What a query must find is the same person under another camera, so the positive pairs should cross cameras. The
    batches, and how often an identity comes, are those of `IdentityBatches`; its images are dealt otherwise. The
    cameras of an identity, in an order drawn every epoch, take turns, and whose turn it is gives the next of its shuffled
    images, from the first again after the last. A camera that has given all its images to a group is passed over until
    the next group. Hence a group has min(K, C) of the identity's C cameras; the numbers of their images differ by at
    most one, except where a camera has no more; an image comes twice in a group only if the identity has fewer than K;
    and an image of a camera with few of them comes in several groups of an epoch, while others wait for another epoch.

    An image whose camera is not known (camid below 0) counts as a camera of its own.
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
        """Groups the samples by identity and camera; arguments and errors are those of `IdentityBatches`."""
        super().__init__(samples, batch_size, seed, rank, world_size, num_instances)
        cameras = np.array([sample.camid for sample in samples], dtype=np.int64)
        unknown = cameras < 0
        cameras[unknown] = cameras.max() + 1 + np.arange(np.count_nonzero(unknown))
        _, cameras = np.unique(cameras, return_inverse=True)
        num_cameras = int(cameras.max()) + 1
        pairs, self._pair, self._pair_sizes = np.unique(
            self._identity * num_cameras + cameras, return_inverse=True, return_counts=True
        )
        self._pair_identity = pairs // num_cameras  # sorted

    def _cut(self, rng: np.random.Generator) -> NDArray[np.int64]:
        shuffled = np.lexsort((rng.random(len(self._pair)), self._pair)).tolist()
        ends = np.cumsum(self._pair_sizes)
        order = np.lexsort((rng.random(len(ends)), self._pair_identity))  # of the cameras, within each identity
        spans = zip((ends - self._pair_sizes)[order].tolist(), ends[order].tolist(), strict=True)
        cameras = [shuffled[start:end] for start, end in spans]
        dealt: list[int] = []
        first = 0
        for number, groups in zip(np.bincount(self._pair_identity).tolist(), self._groups.tolist(), strict=True):
            dealt += deal_in_turns(cameras[first : first + number], groups, self.num_instances)
            first += number
        return np.array(dealt, dtype=np.int64).reshape(-1, self.num_instances)


def deal_in_turns(cameras: Sequence[Sequence[int]], groups: int, size: int) -> list[int]:
    """Deals one identity's images into groups, its cameras taking turns.

    Args:
        cameras: The images of each.
        groups: How many; one if there are fewer than `size` images.
        size: Of a group.

    Returns:
        `groups * size` images, group after group.
    """
    distinct = min(size, sum(map(len, cameras)))
    given = [0] * len(cameras)
    turn = 0
    dealt: list[int] = []
    for _ in range(groups):
        group: list[int] = []
        before: dict[int, int] = {}  # what a camera had given when the group began
        while len(group) < distinct:
            images, count = cameras[turn], given[turn]
            if count - before.setdefault(turn, count) < len(images):
                group.append(images[count % len(images)])
                given[turn] += 1
            turn = (turn + 1) % len(cameras)
        dealt += (group * -(-size // distinct))[:size]
    return dealt
