"""Batch samplers that say how much of a batch comes from which camera or which dataset."""

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from reidlit.data.sample import Sample
from reidlit.data.samplers import EpochBatches, distinct_batches, multiple, within


class DealtBatches(EpochBatches):
    """Batches with so many samples of this source and so many of that; a source is a camera or a dataset.

    Each source deals its samples from a shuffled pack, which is shuffled anew when it runs out: no sample of a source
    comes for the (n+1)-th time in an epoch before all of them came n times, and none twice in a batch unless the
    batch asks for more than the source has. The sources are spread over a batch as evenly as possible, so that each
    rank's share has nearly the batch's proportions. An epoch is as many batches as the draws fill; the rest is left out.

    A subclass implements `_hands`.
    """

    def __init__(
        self, sources: Sequence[int], batch_size: int, seed: int, rank: int, world_size: int, num_draws: int
    ) -> None:
        """Groups the samples, given by their sources' numbers, and counts the batches of `num_draws` draws."""
        super().__init__(batch_size, seed, rank, world_size)
        numbers, source, sizes = np.unique(np.array(sources, dtype=np.int64), return_inverse=True, return_counts=True)
        self.source_ids: list[int] = numbers.tolist()
        self._members = np.split(np.argsort(source, kind="stable"), np.cumsum(sizes)[:-1])
        self.num_batches = num_draws // batch_size
        self.num_draws = self.num_batches * batch_size

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        sources, sizes = self._hands(rng)
        source_at = np.repeat(sources.ravel(), sizes.ravel())[_spread(sizes, rng)]
        order = np.empty(self.num_draws, dtype=np.int64)
        positions = np.argsort(source_at, kind="stable")  # source after source, in each batch after batch
        hands = np.argsort(sources.ravel(), kind="stable")
        ends = np.cumsum(np.bincount(sources.ravel(), minlength=len(self._members)))[:-1]
        order[positions] = [
            index
            for members, asked in zip(self._members, np.split(sizes.ravel()[hands], ends), strict=True)
            for hand in deal(members, asked.tolist(), rng)
            for index in hand
        ]
        return order

    def _hands(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draws what batches ask for: (batches, n) positions of sources in `source_ids`, (batches, n) counts of samples."""
        raise NotImplementedError


class EqualBatches(DealtBatches):
    """Batches of the same number of samples from each of several sources; see the subclasses.

    The sources of a batch are drawn at random, distinct, and so that in an epoch the numbers of batches that two of them
    are in differ by at most one, whatever their sizes.
    """

    def __init__(
        self,
        sources: Sequence[int],
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        chosen: int | None,
        words: tuple[str, str],
    ) -> None:
        """Takes how many sources a batch has, or `None` for all, and what option and field this is called."""
        super().__init__(sources, batch_size, seed, rank, world_size, num_draws=len(sources))
        option, what = words
        there = len(self.source_ids)
        if not self.num_batches:
            raise ValueError(
                f"batch_size={batch_size}, but there are {len(sources)} training samples: an epoch would have no batch. "
                "Lower data.batch_size."
            )
        if chosen is not None and not 1 <= chosen <= there:
            raise ValueError(
                f"sampler.{option}={chosen}: the training set has {there} {what}; take 1 to {there}, or null for all."
            )
        self.chosen = there if chosen is None else chosen
        if batch_size % self.chosen:
            raise ValueError(
                f"sampler.{option}={'null' if chosen is None else chosen} takes {self.chosen} {what} a batch, which must "
                f"divide batch_size={batch_size}; take "
                f"data.batch_size={multiple(batch_size, math.lcm(self.chosen, world_size))}, or another sampler.{option}."
            )

    def _hands(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        there = len(self.source_ids)
        each, more = divmod(self.num_batches * self.chosen, there)
        counts = each + (rng.permutation(there) < more)
        sources = distinct_batches(counts, self.chosen, rng)
        return sources, np.full_like(sources, self.batch_size // self.chosen)


class DomainBatches(EqualBatches):
    """Batches with the same number of images from each of `num_cams` cameras.

    In effect Torchreid's RandomDomainSampler, which ends an epoch as soon as a camera that it drew runs short, and
    fails where a camera has fewer images than a batch takes. Here an epoch has as many draws as there are samples, less
    the rest of a batch; all cameras come equally often, and the images of small ones repeat.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        num_cams: int | None = None,
    ) -> None:
        """Groups the samples by camera and counts the batches.

        Args:
            samples: The training list.
            batch_size: Over all ranks together.
            seed: Of the order.
            rank: This process.
            world_size: Number of processes.
            num_cams: Cameras in a batch, a divisor of the batch; `None` takes all there are.

        Raises:
            ValueError: A number is out of range, or a sample's camera is not known.
        """
        cameras = [sample.camid for sample in samples]
        if unknown := sum(camera < 0 for camera in cameras):
            raise ValueError(
                f"sampler=domain groups images by camera, but {unknown} of {len(cameras)} training samples have none "
                "(camid below 0). Take sampler=random or sampler=identity, or give their cameras."
            )
        super().__init__(cameras, batch_size, seed, rank, world_size, num_cams, ("num_cams", "cameras"))


class DatasetBatches(EqualBatches):
    """Batches with the same number of images from each of `num_datasets` datasets.

    In effect Torchreid's RandomDatasetSampler; what differs is what differs in `DomainBatches`.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        num_datasets: int | None = None,
    ) -> None:
        """Groups the samples by dataset and counts the batches.

        Args:
            samples: The training list.
            batch_size: Over all ranks together.
            seed: Of the order.
            rank: This process.
            world_size: Number of processes.
            num_datasets: Datasets in a batch, a divisor of the batch; `None` takes all there are.

        Raises:
            ValueError: A number is out of range.
        """
        datasets = [sample.dsetid for sample in samples]
        super().__init__(datasets, batch_size, seed, rank, world_size, num_datasets, ("num_datasets", "datasets"))


class WeightedBatches(DealtBatches):
    """Batches in which each dataset has its weight, whatever its size.

    Shares are apportioned, not left to chance. In every batch a dataset has its weight's part of the batch, rounded up
    or down, and in the epoch its part of the epoch, rounded up or down. Which batches round up is drawn every epoch.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        weights: Sequence[float] | None = None,
        num_draws: int | None = None,
    ) -> None:
        """Groups the samples by dataset and apportions the draws.

        Args:
            samples: The training list.
            batch_size: Over all ranks together.
            seed: Of the order.
            rank: This process.
            world_size: Number of processes.
            weights: One number a dataset, in the order of dsetid; only their ratios count, 0 leaves a dataset out.
                `None` weighs all alike.
            num_draws: Of an epoch, less the rest of a batch; `None` takes the number of samples.

        Raises:
            ValueError: A number is out of range, or there are not as many weights as datasets.
        """
        datasets = [sample.dsetid for sample in samples]
        draws = len(datasets) if num_draws is None else num_draws
        super().__init__(datasets, batch_size, seed, rank, world_size, draws)
        if not samples or self.num_batches < 1:
            raise ValueError(
                f"sampler.num_draws={'null' if num_draws is None else num_draws} with {len(datasets)} training samples "
                f"and batch_size={batch_size}: an epoch would have no batch. Raise sampler.num_draws or lower "
                "data.batch_size."
            )
        shares = _shares([1] * len(self.source_ids) if weights is None else weights, self.source_ids)
        # Exact fractions: with floats, 10 * 0.3 could fall below 3.
        self._least = np.array([math.floor(batch_size * share) for share in shares], dtype=np.int64)
        self._more = _apportioned(self.num_draws, shares) - self.num_batches * self._least

    def _hands(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        sizes = np.tile(self._least, (self.num_batches, 1))
        if rounded_up := int(self.batch_size - self._least.sum()):
            chosen = distinct_batches(self._more, rounded_up, rng)
            np.put_along_axis(sizes, chosen, self._least[chosen] + 1, axis=1)
        return np.tile(np.arange(len(self.source_ids)), (self.num_batches, 1)), sizes


def deal(members: NDArray[np.int64], sizes: Iterable[int], rng: np.random.Generator) -> Iterator[list[int]]:
    """Deals hands of these sizes from a shuffled pack, which is shuffled anew when it runs out.

    A hand has a member twice only if it is larger than the pack. Linear in the number of members dealt.
    """
    pack: list[int] = []
    start = 0
    for size in sizes:
        hand = pack[start : start + size]
        start += size
        tail = set(hand)
        while (lacking := size - len(hand)) > 0:
            fresh = rng.permutation(members).tolist()
            head = sorted(fresh, key=tail.__contains__)[:lacking]  # first those that the hand lacks
            hand += head
            given = set(head)
            pack, start = [member for member in fresh if member not in given], 0
        yield hand


def _spread(sizes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Spreads what is listed hand after hand evenly over its batch.

    Args:
        sizes: (batches, n) of the hands.
        rng: Decides which hand comes first where several could.

    Returns:
        (sum of sizes,) positions in the listing, batch after batch.
    """
    hands = sizes.ravel()
    batch = np.repeat(np.repeat(np.arange(len(sizes)), sizes.shape[1]), hands)
    share = (within(hands) + 0.5) / np.repeat(hands, hands)
    first = np.repeat(rng.random(len(hands)), hands)
    return np.lexsort((first, share, batch))


def _shares(weights: Sequence[float], source_ids: Sequence[int]) -> list[Fraction]:
    """Returns the weights as fractions of their sum.

    Raises:
        ValueError: There are not as many as datasets, one is negative or not finite, or all are 0.
    """
    if len(weights) != len(source_ids):
        raise ValueError(
            f"sampler.weights={list(weights)}: the training set has {len(source_ids)} datasets (dsetid {list(source_ids)}); "
            "give one weight for each, in this order."
        )
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ValueError(f"sampler.weights={list(weights)}: weights are 0 or more, and one is above 0.")
    exact = [Fraction(str(weight)) for weight in weights]
    return [weight / sum(exact) for weight in exact]


def _apportioned(total: int, shares: Sequence[Fraction]) -> NDArray[np.int64]:
    """Returns integers that sum to `total` by the method of largest remainders; the first wins a tie."""
    quotas = [total * share for share in shares]
    counts = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda i: counts[i] - quotas[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return np.array(counts, dtype=np.int64)
