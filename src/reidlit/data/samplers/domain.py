"""Batch samplers that fix how many samples of a batch come from each camera or dataset."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from reidlit.data.sample import Sample
from reidlit.data.samplers.draws import apportion, deal, distinct_batches
from reidlit.data.samplers.epoch import EpochBatches, multiple


class DealtBatches(EpochBatches):
    """Batches with given numbers of samples from each source, which is a camera or a dataset.

    Each source deals its samples from a shuffled pack, which is reshuffled when it runs out: no sample of a source occurs for
    the (n+1)-th time in an epoch before all of them occurred n times, and none occurs twice in a batch unless the batch asks
    for more samples than the source has. The sources are spread evenly over a batch, so that each rank's part has nearly the
    batch's proportions. An epoch has as many batches as its draws fill; the rest is left out.

    A subclass sets `source`, the field of a sample that numbers its source, and implements `_prepare` and `_hands`.
    """

    source: ClassVar[str]

    def _group(self, samples: Sequence[Sample], most: int) -> int:
        """Group the samples by source; return the size of an epoch, at most `most`."""
        numbers = np.array([getattr(sample, self.source) for sample in samples], dtype=np.int64)
        source_ids, source, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
        self.source_ids: list[int] = source_ids.tolist()
        self._members = np.split(np.argsort(source, kind="stable"), np.cumsum(sizes)[:-1])
        self.num_batches = most // self.batch_size
        return self.num_batches * self.batch_size

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        sources, sizes = self._hands(rng)
        # Spread every hand evenly over its batch; ties between hands are random.
        share = np.concatenate([(np.arange(size) + 0.5) / size for size in sizes.ravel().tolist()])
        first = np.repeat(rng.random(sizes.size), sizes.ravel())
        batch = np.repeat(np.arange(self.num_batches), self.batch_size)
        positions = np.lexsort((first, share, batch))
        hands: dict[int, list[int]] = {}
        for source, members in enumerate(self._members):
            where = np.flatnonzero(sources == source)
            hands |= zip(where.tolist(), deal(members, sizes.ravel()[where].tolist(), rng), strict=True)
        return np.array([index for number in range(len(hands)) for index in hands[number]])[positions]

    def _hands(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw the contents of batches: (batches, n) positions of sources in `source_ids`, (batches, n) sample counts."""
        raise NotImplementedError


class EqualBatches(DealtBatches):
    """Batches with the same number of samples from each of several sources; see the subclasses.

    The sources of a batch are distinct and drawn at random such that, in an epoch, the numbers of batches that contain two
    of them differ by at most one, whatever their sizes. A subclass sets `option`, the name of its field that holds the number
    of sources in a batch or `None` for all, and `plural`, the name of the sources.
    """

    option: ClassVar[str]
    plural: ClassVar[str]

    def _prepare(self, samples: Sequence[Sample]) -> int:
        epoch_size = self._group(samples, len(samples))
        chosen, count = getattr(self, self.option), len(self.source_ids)
        if not epoch_size:
            raise ValueError(
                f"batch_size={self.batch_size}, but there are {len(samples)} training samples: an epoch would have no "
                "batch. Lower data.batch_size."
            )
        if chosen is not None and not 1 <= chosen <= count:
            raise ValueError(
                f"sampler.{self.option}={chosen}: the training set has {count} {self.plural}; take 1 to {count}, or null "
                "for all."
            )
        self.chosen: int = count if chosen is None else chosen
        if self.batch_size % self.chosen:
            raise ValueError(
                f"sampler.{self.option}={'null' if chosen is None else chosen} takes {self.chosen} {self.plural} a batch, "
                f"which must divide batch_size={self.batch_size}; take data.batch_size="
                f"{multiple(self.batch_size, math.lcm(self.chosen, self.world_size))}, or another sampler.{self.option}."
            )
        return epoch_size

    def _hands(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        each, more = divmod(self.num_batches * self.chosen, len(self.source_ids))
        counts = each + (rng.permutation(len(self.source_ids)) < more)
        sources = distinct_batches(counts, self.chosen, rng)
        return sources, np.full_like(sources, self.batch_size // self.chosen)


@dataclass(eq=False, repr=False)
class DomainBatches(EqualBatches):
    """Batches with the same number of images from each of several cameras; see `EpochBatches` for the other arguments.

    Equivalent to Torchreid's RandomDomainSampler, which ends an epoch as soon as a drawn camera runs short and fails where
    a camera has fewer images than a batch takes. Here an epoch has as many draws as there are samples, rounded down to whole
    batches; all cameras occur equally often, and the images of small ones repeat.

    Args:
        num_cams: Number of cameras in a batch, a divisor of `batch_size`; `None` takes all cameras.
    """

    num_cams: int | None = None
    source, option, plural = "camid", "num_cams", "cameras"

    def _prepare(self, samples: Sequence[Sample]) -> int:
        if unknown := sum(sample.camid < 0 for sample in samples):
            raise ValueError(
                f"sampler=domain groups images by camera, but {unknown} of {len(samples)} training samples have none "
                "(camid below 0). Take sampler=random or sampler=identity, or give their cameras."
            )
        return super()._prepare(samples)


@dataclass(eq=False, repr=False)
class DatasetBatches(EqualBatches):
    """Batches with the same number of images from each of several datasets; see `EpochBatches` for the other arguments.

    Equivalent to Torchreid's RandomDatasetSampler, with the differences described at `DomainBatches`.

    Args:
        num_datasets: Number of datasets in a batch, a divisor of `batch_size`; `None` takes all datasets.
    """

    num_datasets: int | None = None
    source, option, plural = "dsetid", "num_datasets", "datasets"


@dataclass(eq=False, repr=False)
class WeightedBatches(DealtBatches):
    """Batches in which each dataset has its weight, whatever its size; see `EpochBatches` for the other arguments.

    Numbers of samples are apportioned, not random. In every batch a dataset has its weight's fraction of the batch, rounded up
    or down, and in the epoch its fraction of the epoch, rounded up or down. Which batches round up is drawn every epoch.

    Args:
        weights: One weight per dataset, in the order of dsetid; only their ratios count, and 0 leaves a dataset out.
            `None` gives all datasets equal weights.
        num_draws: Draws of an epoch, rounded down to whole batches; `None` takes the number of samples.
    """

    weights: Sequence[float] | None = None
    num_draws: int | None = None
    source = "dsetid"

    def _prepare(self, samples: Sequence[Sample]) -> int:
        epoch_size = self._group(samples, len(samples) if self.num_draws is None else self.num_draws)
        if not samples or self.num_batches < 1:
            raise ValueError(
                f"sampler.num_draws={'null' if self.num_draws is None else self.num_draws} with {len(samples)} training "
                f"samples and batch_size={self.batch_size}: an epoch would have no batch. Raise sampler.num_draws or lower "
                "data.batch_size."
            )
        weights = [1] * len(self.source_ids) if self.weights is None else list(self.weights)
        if len(weights) != len(self.source_ids):
            raise ValueError(
                f"sampler.weights={weights}: the training set has {len(self.source_ids)} datasets (dsetid "
                f"{self.source_ids}); give one weight for each, in this order."
            )
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
            raise ValueError(f"sampler.weights={weights}: weights are 0 or more, and one is above 0.")
        # Exact fractions: with floats, 10 * 0.3 could fall below 3.
        exact = [Fraction(str(weight)) for weight in weights]
        fractions = [weight / sum(exact) for weight in exact]
        self._least = np.array([math.floor(self.batch_size * fraction) for fraction in fractions], dtype=np.int64)
        self._more = apportion(epoch_size, fractions) - self.num_batches * self._least
        return epoch_size

    def _hands(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        sizes = np.tile(self._least, (self.num_batches, 1))
        if rounded_up := int(self.batch_size - self._least.sum()):
            chosen = distinct_batches(self._more, rounded_up, rng)
            np.put_along_axis(sizes, chosen, self._least[chosen] + 1, axis=1)
        return np.tile(np.arange(len(self.source_ids)), (self.num_batches, 1)), sizes
