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
    """Base class of batches with a fixed number of samples from each source, which is a camera or a dataset.

    The samples of a source are drawn from a shuffled list, which is reshuffled when it is exhausted. No sample is drawn for
    the (n+1)-th time in an epoch before all samples of its source were drawn n times. A batch contains a sample twice only if
    it needs more samples than the source has. The sources are spread evenly over a batch, so the part of each rank has nearly
    the same proportions. An epoch has as many complete batches as its draws fill; the remaining draws are dropped.

    A subclass sets `source`, the field of a sample that identifies its source, and implements `_prepare` and `_composition`.

    Example:
        >>> from reidlit.data.samplers import DealtBatches, DomainBatches
        >>> issubclass(DomainBatches, DealtBatches), DomainBatches.source
        (True, 'camid')
    """

    source: ClassVar[str]

    def _group(self, samples: Sequence[Sample], max_draws: int) -> int:
        """Group the samples by source; return the number of draws in an epoch, which is at most `max_draws`."""
        numbers = np.array([getattr(sample, self.source) for sample in samples], dtype=np.int64)
        source_ids, source, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
        self.source_ids: list[int] = source_ids.tolist()
        self._members = np.split(np.argsort(source, kind="stable"), np.cumsum(sizes)[:-1])
        self.num_batches = max_draws // self.batch_size
        return self.num_batches * self.batch_size

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        sources, sizes = self._composition(rng)
        # Spread the samples of each source evenly over the batch; break ties between sources at random.
        fraction = np.concatenate([(np.arange(size) + 0.5) / size for size in sizes.ravel().tolist()])
        tie_breaker = np.repeat(rng.random(sizes.size), sizes.ravel())
        batch = np.repeat(np.arange(self.num_batches), self.batch_size)
        positions = np.lexsort((tie_breaker, fraction, batch))
        groups: dict[int, list[int]] = {}  # the samples of one source in one batch, by flat position in `sources`
        for source, members in enumerate(self._members):
            group_ids = np.flatnonzero(sources == source)
            groups |= zip(group_ids.tolist(), deal(members, sizes.ravel()[group_ids].tolist(), rng), strict=True)
        return np.array([index for group_id in range(len(groups)) for index in groups[group_id]])[positions]

    def _composition(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Choose the composition of the batches.

        Returns:
            (batches, n) sources as positions in `source_ids`, and (batches, n) numbers of samples.
        """
        raise NotImplementedError


class EqualBatches(DealtBatches):
    """Base class of batches with the same number of samples from each of several sources.

    The sources of a batch are distinct and random. Regardless of their sizes, all sources occur in the same number of batches
    per epoch, plus or minus one. A subclass sets `option`, the name of the field that holds the number of sources in a batch
    (`None` for all), and `plural`, the word for the sources in messages.

    Example:
        >>> from reidlit.data.samplers import DatasetBatches, EqualBatches
        >>> issubclass(DatasetBatches, EqualBatches), DatasetBatches.option
        (True, 'num_datasets')
    """

    option: ClassVar[str]
    plural: ClassVar[str]

    def _prepare(self, samples: Sequence[Sample]) -> int:
        epoch_size = self._group(samples, len(samples))
        requested, available = getattr(self, self.option), len(self.source_ids)
        if not epoch_size:
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the training set ({len(samples)} samples), so an epoch would "
                "have no batches. Lower data.batch_size."
            )
        if requested is not None and not 1 <= requested <= available:
            raise ValueError(
                f"sampler.{self.option}={requested} is invalid: must be from 1 to {available}, the number of {self.plural} in "
                "the training set, or null for all."
            )
        self.chosen: int = available if requested is None else requested
        if self.batch_size % self.chosen:
            raise ValueError(
                f"sampler.{self.option}={'null' if requested is None else requested} is invalid: it puts {self.chosen} "
                f"{self.plural} in a batch, but batch_size={self.batch_size} is not divisible by {self.chosen}. Set "
                f"data.batch_size={multiple(self.batch_size, math.lcm(self.chosen, self.world_size))}, or change "
                f"sampler.{self.option}."
            )
        return epoch_size

    def _composition(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        uses, remainder = divmod(self.num_batches * self.chosen, len(self.source_ids))
        counts = uses + (rng.permutation(len(self.source_ids)) < remainder)
        sources = distinct_batches(counts, self.chosen, rng)
        return sources, np.full_like(sources, self.batch_size // self.chosen)


@dataclass(eq=False, repr=False)
class DomainBatches(EqualBatches):
    """Batches with the same number of images from each of several cameras.

    Equivalent to Torchreid's RandomDomainSampler, which ends an epoch as soon as a chosen camera has too few images left, and
    fails if a camera has fewer images than a batch needs. Here an epoch has as many draws as there are samples, rounded down to
    complete batches. All cameras occur equally often, and the images of small cameras repeat. See `EpochBatches` for the other
    arguments.

    Args:
        num_cams: Number of cameras in a batch, a divisor of `batch_size`. `None` uses all cameras.

    Example:
        >>> from reidlit.data.sample import Sample
        >>> from reidlit.data.samplers import DomainBatches
        >>> samples = [Sample(f"{n}.jpg", pid=n, camid=n % 3) for n in range(12)]
        >>> sampler = DomainBatches(samples, batch_size=4, seed=0, num_cams=2)
        >>> [len({samples[draw.index].camid for draw in batch}) for batch in sampler]
        [2, 2, 2]
    """

    num_cams: int | None = None
    source, option, plural = "camid", "num_cams", "cameras"

    def _prepare(self, samples: Sequence[Sample]) -> int:
        if unknown := sum(sample.camid < 0 for sample in samples):
            raise ValueError(
                f"sampler=domain needs the camera of every image, but {unknown} of {len(samples)} training samples have an "
                "unknown camera (camid below 0). Use sampler=random or sampler=identity, or add the cameras to the dataset."
            )
        return super()._prepare(samples)


@dataclass(eq=False, repr=False)
class DatasetBatches(EqualBatches):
    """Batches with the same number of images from each of several datasets.

    Equivalent to Torchreid's RandomDatasetSampler, with the differences described in `DomainBatches`. See `EpochBatches` for
    the other arguments.

    Args:
        num_datasets: Number of datasets in a batch, a divisor of `batch_size`. `None` uses all datasets.

    Example:
        >>> from reidlit.data.sample import Sample
        >>> from reidlit.data.samplers import DatasetBatches
        >>> samples = [Sample(f"{n}.jpg", pid=n, camid=0, dsetid=int(n > 1)) for n in range(8)]
        >>> sampler = DatasetBatches(samples, batch_size=4, seed=0)
        >>> [sum(samples[draw.index].dsetid for draw in batch) for batch in sampler]
        [2, 2]
    """

    num_datasets: int | None = None
    source, option, plural = "dsetid", "num_datasets", "datasets"


@dataclass(eq=False, repr=False)
class WeightedBatches(DealtBatches):
    """Batches in which each dataset has a fixed weight, regardless of its size.

    The numbers of samples are apportioned, not random. In every batch and in the epoch, a dataset has the fraction of the
    samples that its weight gives, rounded up or down. Which batches round up is random. See `EpochBatches` for the other
    arguments.

    Args:
        weights: One weight per dataset in ascending order of dsetid. Only their ratios matter, and 0 excludes a dataset.
            `None` weights all datasets equally.
        num_draws: Number of draws in an epoch, rounded down to complete batches. `None` uses the number of samples.

    Example:
        >>> from reidlit.data.sample import Sample
        >>> from reidlit.data.samplers import WeightedBatches
        >>> samples = [Sample(f"{n}.jpg", pid=n, camid=0, dsetid=n % 2) for n in range(8)]
        >>> sampler = WeightedBatches(samples, batch_size=4, seed=0, weights=[3, 1])
        >>> [sum(samples[draw.index].dsetid for draw in batch) for batch in sampler]
        [1, 1]
    """

    weights: Sequence[float] | None = None
    num_draws: int | None = None
    source = "dsetid"

    def _prepare(self, samples: Sequence[Sample]) -> int:
        epoch_size = self._group(samples, len(samples) if self.num_draws is None else self.num_draws)
        if not samples or self.num_batches < 1:
            raise ValueError(
                f"sampler.num_draws={'null' if self.num_draws is None else self.num_draws} is invalid with {len(samples)} "
                f"training samples and batch_size={self.batch_size}: an epoch would have no batches. Raise sampler.num_draws "
                "or lower data.batch_size."
            )
        weights = [1] * len(self.source_ids) if self.weights is None else list(self.weights)
        if len(weights) != len(self.source_ids):
            raise ValueError(
                f"sampler.weights={weights} is invalid: must contain {len(self.source_ids)} numbers, one per dataset in the "
                f"order of dsetid {self.source_ids}."
            )
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
            raise ValueError(
                f"sampler.weights={weights} is invalid: weights must be finite and at least 0, and one must be positive."
            )
        # Exact fractions: with floats, 10 * 0.3 could fall below 3.
        exact = [Fraction(str(weight)) for weight in weights]
        fractions = [weight / sum(exact) for weight in exact]
        self._min_sizes = np.array([math.floor(self.batch_size * fraction) for fraction in fractions], dtype=np.int64)
        self._num_rounded_up = apportion(epoch_size, fractions) - self.num_batches * self._min_sizes
        return epoch_size

    def _composition(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        sizes = np.tile(self._min_sizes, (self.num_batches, 1))
        if rounded_up := int(self.batch_size - self._min_sizes.sum()):
            chosen = distinct_batches(self._num_rounded_up, rounded_up, rng)
            np.put_along_axis(sizes, chosen, self._min_sizes[chosen] + 1, axis=1)
        return np.tile(np.arange(len(self.source_ids)), (self.num_batches, 1)), sizes
