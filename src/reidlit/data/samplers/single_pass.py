"""Batch samplers that draw every sample at most once in an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidlit.data.sample import Sample
from reidlit.data.samplers.epoch import EpochBatches


@dataclass(eq=False, repr=False)
class SequentialBatches(EpochBatches):
    """Samples in the order of the list, the same in every epoch; see `EpochBatches` for the other arguments.

    Args:
        drop_last: Leave out the last samples if they do not fill a batch.
    """

    drop_last: bool = False

    def _prepare(self, samples: Sequence[Sample]) -> int:
        self.num_samples = len(samples)
        rest = self.num_samples % self.batch_size
        if not samples or (self.drop_last and self.num_samples < self.batch_size):
            raise ValueError(
                f"batch_size={self.batch_size}, but there are {self.num_samples} training samples: an epoch would have no "
                "batch. Lower data.batch_size, or set sampler.drop_last=false."
            )
        if not self.drop_last and rest % self.world_size:
            raise ValueError(
                f"drop_last=False leaves a last batch of {rest} samples, which {self.world_size} devices cannot share "
                "evenly; set sampler.drop_last=true, or choose another data.batch_size."
            )
        return self.num_samples - rest if self.drop_last else self.num_samples

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        del rng
        return np.arange(self.epoch_size)


@dataclass(eq=False, repr=False)
class RandomBatches(SequentialBatches):
    """Shuffled samples; see `EpochBatches` for the other arguments.

    Args:
        drop_last: Leave out the samples, different ones in every epoch, that do not fill a batch.
    """

    drop_last: bool = True

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.permutation(self.num_samples)[: self.epoch_size]
