"""Batch samplers that draw every sample at most once per epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidlit.data.sample import Sample
from reidlit.data.samplers.epoch import EpochBatches


@dataclass(eq=False, repr=False)
class SequentialBatches(EpochBatches):
    """Batches in the order of the sample list, the same in every epoch.

    See `EpochBatches` for the other arguments.

    Args:
        drop_last: Whether to drop the last batch if it is incomplete.

    Example:
        >>> from reidlit.data.sample import Sample
        >>> from reidlit.data.samplers import SequentialBatches
        >>> samples = [Sample(f"{pid}.jpg", pid, camid=0) for pid in range(5)]
        >>> sampler = SequentialBatches(samples, batch_size=2, seed=0)
        >>> [[draw.index for draw in batch] for batch in sampler]
        [[0, 1], [2, 3], [4]]
    """

    drop_last: bool = False

    def _prepare(self, samples: Sequence[Sample]) -> int:
        self.num_samples = len(samples)
        rest = self.num_samples % self.batch_size
        if not samples or (self.drop_last and self.num_samples < self.batch_size):
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the training set ({self.num_samples} samples), so an epoch would "
                "have no batches. Lower data.batch_size, or set sampler.drop_last=false."
            )
        if not self.drop_last and rest % self.world_size:
            raise ValueError(
                f"drop_last=False leaves a last batch of {rest} samples, which {self.world_size} devices cannot split evenly. "
                "Set sampler.drop_last=true, or change data.batch_size."
            )
        return self.num_samples - rest if self.drop_last else self.num_samples

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        del rng
        return np.arange(self.epoch_size)


@dataclass(eq=False, repr=False)
class RandomBatches(SequentialBatches):
    """Batches in random order without replacement.

    See `EpochBatches` for the other arguments.

    Args:
        drop_last: Whether to drop the last batch if it is incomplete. Which samples that concerns changes every epoch.

    Example:
        >>> from reidlit.data.sample import Sample
        >>> from reidlit.data.samplers import RandomBatches
        >>> samples = [Sample(f"{pid}.jpg", pid, camid=0) for pid in range(4)]
        >>> sampler = RandomBatches(samples, batch_size=2, seed=0)
        >>> sampler.set_epoch(1)
        >>> sorted(draw.index for batch in sampler for draw in batch)
        [0, 1, 2, 3]
    """

    drop_last: bool = True

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.permutation(self.num_samples)[: self.epoch_size]
