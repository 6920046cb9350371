"""Batch samplers of P identities with K images each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from reidlit.data.sample import Sample
from reidlit.data.samplers.draws import distinct_batches
from reidlit.data.samplers.epoch import EpochBatches, multiple


@dataclass(eq=False, repr=False)
class IdentityBatches(EpochBatches):
    """Batches of P identities with K images each; see `EpochBatches` for the other arguments.

    Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", arXiv 2017. As in Torchreid, an epoch cuts
    every identity's shuffled images into groups of K and fills batches with groups of distinct identities. Torchreid draws
    until fewer than P identities are left; here an epoch always has the largest number of batches that the groups allow. The
    few groups beyond a full batch are left out, different ones in every epoch. An identity with fewer than K images forms one
    group, in which its images recur. Ranks receive whole identities if `world_size` divides P.

    Args:
        num_instances: K, the number of images of an identity in a batch; must divide `batch_size`.
    """

    num_instances: int = 4
    by_camera: ClassVar[bool] = False

    def _prepare(self, samples: Sequence[Sample]) -> int:
        size = self.num_instances
        if size < 1 or self.batch_size % size:
            raise ValueError(
                f"num_instances={size} must divide batch_size={self.batch_size}; take "
                f"data.batch_size={multiple(self.batch_size, math.lcm(max(size, 1), self.world_size))}, or another "
                "sampler.num_instances."
            )
        self.num_identities = self.batch_size // size  # P
        pids = np.array([sample.pid for sample in samples], dtype=np.int64)
        _, identity, sizes = np.unique(pids, return_inverse=True, return_counts=True)
        if len(sizes) < self.num_identities:
            raise ValueError(
                f"batch_size={self.batch_size} with num_instances={size} needs {self.num_identities} identities; "
                f"the training set has {len(sizes)}. Lower data.batch_size or raise sampler.num_instances."
            )
        groups = np.maximum(sizes // size, 1)
        batches = int(groups.sum()) // self.num_identities
        # An identity occurs at most once in a batch. The bound falls until the groups that it admits fill the batches.
        while (fitting := int(np.minimum(groups, batches).sum()) // self.num_identities) < batches:
            batches = fitting
        self._groups = np.minimum(groups, batches)
        cameras = np.array([sample.camid if self.by_camera else 0 for sample in samples], dtype=np.int64)
        unknown = cameras < 0
        cameras[unknown] = cameras.max() + 1 + np.arange(np.count_nonzero(unknown))
        _, cameras = np.unique(cameras, return_inverse=True)
        # Packs: the images of an identity under a camera, identity after identity.
        packs, self._pack = np.unique(identity * (cameras.max() + 1) + cameras, return_inverse=True)
        self._pack_identity = packs // (cameras.max() + 1)
        return batches * self.batch_size

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        groups = self._cut(np.lexsort((rng.random(len(self._pack)), self._pack)), rng)
        owners, _ = numbered(self._groups)
        kept = rng.permutation(owners)[: self.epoch_size // self.num_instances]
        identities = distinct_batches(np.bincount(kept, minlength=len(self._groups)), self.num_identities, rng).ravel()
        # The n-th time that an identity occurs, it takes its n-th group.
        taken = np.empty_like(identities)
        _, taken[np.argsort(identities, kind="stable")] = numbered(np.bincount(identities))
        order: NDArray[np.int64] = groups[(np.cumsum(self._groups) - self._groups)[identities] + taken].ravel()
        return order

    def _cut(self, shuffled: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Cut the images, shuffled within each pack, into groups: (groups, K), identity after identity."""
        del rng
        sizes = np.bincount(self._pack)  # a pack holds all images of an identity
        owners, number = numbered(self._groups)
        places = (number[:, None] * self.num_instances + np.arange(self.num_instances)) % sizes[owners, None]
        groups: NDArray[np.int64] = shuffled[(np.cumsum(sizes) - sizes)[owners, None] + places]
        return groups


def numbered(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the item of each occurrence, item after item, and the number of the occurrence among those of its item."""
    items = np.repeat(np.arange(len(counts)), counts)
    return items, np.arange(len(items)) - (np.cumsum(counts) - counts)[items]


class CameraIdentityBatches(IdentityBatches):
    """Batches of P identities with K images each, from as many cameras as possible; arguments as for `IdentityBatches`.

    The positive pairs of a batch should cross cameras, as those of a test do. Batches differ from `IdentityBatches` only in the
    choice of an identity's images: its cameras, in an order drawn every epoch, take turns, and each turn takes the next of the
    camera's shuffled images. Hence a group has min(K, C) of the identity's C cameras; the numbers of their images differ by
    at most one, unless a camera has no more; and images of a camera with few images occur in several groups of an epoch. An
    image with an unknown camera (camid below 0) counts as its own camera.
    """

    by_camera = True

    def _cut(self, shuffled: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        images, ends = shuffled.tolist(), np.cumsum(np.bincount(self._pack)).tolist()
        packs = [images[start:end] for start, end in pairwise([0, *ends])]
        order = np.lexsort((rng.random(len(packs)), self._pack_identity)).tolist()  # of the cameras of each identity
        dealt: list[int] = []
        first = 0
        for cameras, groups in zip(np.bincount(self._pack_identity).tolist(), self._groups.tolist(), strict=True):
            turns = [packs[pack] for pack in order[first : first + cameras]]
            dealt += deal_in_turns(turns, groups, self.num_instances)
            first += cameras
        return np.array(dealt, dtype=np.int64).reshape(-1, self.num_instances)


def deal_in_turns(cameras: Sequence[Sequence[int]], groups: int, size: int) -> list[int]:
    """Deal one identity's images into groups, its cameras taking turns.

    Args:
        cameras: Images of each camera.
        groups: Number of groups.
        size: Size of a group, in which images recur if there are fewer.

    Returns:
        `groups * size` images, group after group.
    """
    distinct = min(size, sum(map(len, cameras)))
    given = [0] * len(cameras)
    turn = 0
    dealt: list[int] = []
    for _ in range(groups):
        group: list[int] = []
        before = given.copy()
        while len(group) < distinct:
            images, count = cameras[turn], given[turn]
            if count - before[turn] < len(images):
                group.append(images[count % len(images)])
                given[turn] += 1
            turn = (turn + 1) % len(cameras)
        dealt += (group * -(-size // distinct))[:size]
    return dealt
