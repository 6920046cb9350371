"""PK samplers: batches of P identities with K images each."""

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
    """Batches of P identities with K images each.

    Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", arXiv 2017. As in Torchreid, the shuffled
    images of every identity are cut into groups of K, and batches consist of groups of distinct identities. Torchreid draws
    until fewer than P identities are left. Here an epoch always has the largest possible number of batches. The few groups
    that do not fill a batch are dropped, different ones in every epoch. The images of an identity with fewer than K images are
    repeated to form one group. Each rank receives complete identities if `world_size` divides P. See `EpochBatches` for the
    other arguments.

    Args:
        num_instances: K, the number of images per identity in a batch, a divisor of `batch_size`.

    Example:
        >>> from reidlit.data.sample import Sample
        >>> from reidlit.data.samplers import IdentityBatches
        >>> samples = [Sample(f"{n}.jpg", pid=n // 4, camid=0) for n in range(16)]
        >>> sampler = IdentityBatches(samples, batch_size=8, seed=0, num_instances=4)
        >>> [len({samples[draw.index].pid for draw in batch}) for batch in sampler]
        [2, 2]
    """

    num_instances: int = 4
    by_camera: ClassVar[bool] = False

    def _prepare(self, samples: Sequence[Sample]) -> int:
        size = self.num_instances
        if size < 1 or self.batch_size % size:
            raise ValueError(
                f"num_instances={size} is invalid: must be a positive divisor of batch_size={self.batch_size}. Set "
                f"data.batch_size={multiple(self.batch_size, math.lcm(max(size, 1), self.world_size))}, or change "
                "sampler.num_instances."
            )
        self.num_identities = self.batch_size // size  # P
        pids = np.array([sample.pid for sample in samples], dtype=np.int64)
        _, identity, sizes = np.unique(pids, return_inverse=True, return_counts=True)
        if len(sizes) < self.num_identities:
            raise ValueError(
                f"batch_size={self.batch_size} with num_instances={size} needs {self.num_identities} identities, but the "
                f"training set has {len(sizes)}. Lower data.batch_size or raise sampler.num_instances."
            )
        groups = np.maximum(sizes // size, 1)
        batches = int(groups.sum()) // self.num_identities
        # An identity occurs at most once per batch. Lower the bound until the groups that it admits fill the batches.
        while (fitting := int(np.minimum(groups, batches).sum()) // self.num_identities) < batches:
            batches = fitting
        self._groups = np.minimum(groups, batches)
        cameras = np.array([sample.camid if self.by_camera else 0 for sample in samples], dtype=np.int64)
        unknown = cameras < 0
        cameras[unknown] = cameras.max() + 1 + np.arange(np.count_nonzero(unknown))
        _, cameras = np.unique(cameras, return_inverse=True)
        # A view holds the images of one identity from one camera. Views are numbered identity after identity.
        views, self._view = np.unique(identity * (cameras.max() + 1) + cameras, return_inverse=True)
        self._view_identity = views // (cameras.max() + 1)
        return batches * self.batch_size

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        groups = self._cut(np.lexsort((rng.random(len(self._view)), self._view)), rng)
        group_identity, _ = numbered(self._groups)
        kept = rng.permutation(group_identity)[: self.epoch_size // self.num_instances]
        identities = distinct_batches(np.bincount(kept, minlength=len(self._groups)), self.num_identities, rng).ravel()
        # The n-th occurrence of an identity uses its n-th group.
        occurrence = np.empty_like(identities)
        _, occurrence[np.argsort(identities, kind="stable")] = numbered(np.bincount(identities))
        order: NDArray[np.int64] = groups[(np.cumsum(self._groups) - self._groups)[identities] + occurrence].ravel()
        return order

    def _cut(self, shuffled: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Cut the images, shuffled within each view, into (groups, K), identity after identity."""
        del rng
        sizes = np.bincount(self._view)  # a view holds all images of an identity
        group_identity, number = numbered(self._groups)
        positions = (number[:, None] * self.num_instances + np.arange(self.num_instances)) % sizes[group_identity, None]
        groups: NDArray[np.int64] = shuffled[(np.cumsum(sizes) - sizes)[group_identity, None] + positions]
        return groups


def numbered(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Repeat every item by its count; return the items and the number of each repetition within its item."""
    items = np.repeat(np.arange(len(counts)), counts)
    return items, np.arange(len(items)) - (np.cumsum(counts) - counts)[items]


class CameraIdentityBatches(IdentityBatches):
    """Batches of P identities with K images each, from as many cameras as possible.

    The positive pairs of a batch then cross cameras, as the matches in a test do. Only the choice of an identity's images
    differs from `IdentityBatches`: its cameras take turns in random order, and each turn uses the next of the camera's shuffled
    images. A group therefore contains min(K, C) of the identity's C cameras. The numbers of images per camera differ by at most
    one unless a camera has too few images. Images of small cameras occur in several groups of an epoch. An image with an
    unknown camera (camid below 0) counts as its own camera. See `IdentityBatches` for the arguments.

    Example:
        >>> from reidlit.data.sample import Sample
        >>> from reidlit.data.samplers import CameraIdentityBatches
        >>> samples = [Sample(f"{n}.jpg", pid=n // 6, camid=n % 3) for n in range(12)]
        >>> sampler = CameraIdentityBatches(samples, batch_size=6, seed=0, num_instances=3)
        >>> [sorted(samples[draw.index].camid for draw in batch) for batch in sampler]
        [[0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2]]
    """

    by_camera = True

    def _cut(self, shuffled: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        images, ends = shuffled.tolist(), np.cumsum(np.bincount(self._view)).tolist()
        views = [images[start:end] for start, end in pairwise([0, *ends])]
        order = np.lexsort((rng.random(len(views)), self._view_identity)).tolist()  # random within each identity
        dealt: list[int] = []
        first = 0
        for cameras, groups in zip(np.bincount(self._view_identity).tolist(), self._groups.tolist(), strict=True):
            identity_views = [views[view] for view in order[first : first + cameras]]
            dealt += deal_in_turns(identity_views, groups, self.num_instances)
            first += cameras
        return np.array(dealt, dtype=np.int64).reshape(-1, self.num_instances)


def deal_in_turns(cameras: Sequence[Sequence[int]], groups: int, size: int) -> list[int]:
    """Divide the images of one identity into groups, with its cameras taking turns.

    Args:
        cameras: Images of each camera.
        groups: Number of groups.
        size: Number of images in a group. They repeat if the identity has fewer.

    Returns:
        `groups * size` images, group after group.
    """
    distinct = min(size, sum(map(len, cameras)))
    used = [0] * len(cameras)
    turn = 0
    dealt: list[int] = []
    for _ in range(groups):
        group: list[int] = []
        before = used.copy()
        while len(group) < distinct:
            images, count = cameras[turn], used[turn]
            if count - before[turn] < len(images):
                group.append(images[count % len(images)])
                used[turn] += 1
            turn = (turn + 1) % len(cameras)
        dealt += (group * -(-size // distinct))[:size]
    return dealt
