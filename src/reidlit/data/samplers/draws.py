"""Random draws without replacement, and apportionment."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


def distinct_batches(counts: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw batches of distinct items such that each item occurs in as many batches as its count says.

    A batch is drawn without replacement, in proportion to the remaining counts, except that an item which every remaining
    batch needs is taken first, so the draw never fails. Linear in the sum of the counts.

    Args:
        counts: (N,), none above the number of batches, which is their sum divided by `size`.
        size: Size of a batch.
        rng: Random generator; its state advances.

    Returns:
        (batches, size) numbers of items, 0 to N - 1, in random order in each batch.
    """
    tickets = np.repeat(np.arange(len(counts)), counts).tolist()
    left = counts.tolist()
    by_left: dict[int, dict[int, None]] = defaultdict(dict)
    for item, count in enumerate(left):
        by_left[count][item] = None
    uniform = _uniform(rng)
    forced: dict[int, None] = {}  # once an item is needed in every remaining batch, it stays needed to the end
    batches = []
    for batches_left in range(len(tickets) // size, 0, -1):
        forced |= by_left.pop(batches_left, {})
        batch = forced.copy()
        while len(batch) < size:
            position = int(next(uniform) * len(tickets))
            item = tickets[position]
            if item in batch and item not in forced:
                continue
            tickets[position] = tickets[-1]  # the ticket is used, or belongs to a forced item and is no longer needed
            tickets.pop()
            if item not in forced:
                batch[item] = None
                del by_left[left[item]][item]
                left[item] -= 1
                by_left[left[item]][item] = None
        batches.append(list(batch))
    return rng.permuted(np.array(batches, dtype=np.int64), axis=1)


def _uniform(rng: np.random.Generator) -> Iterator[float]:
    """Yield random numbers between 0 and 1, drawn in blocks for speed."""
    while True:
        yield from rng.random(4096).tolist()


def deal(members: NDArray[np.int64], sizes: Iterable[int], rng: np.random.Generator) -> Iterator[list[int]]:
    """Deal hands of the given sizes from a shuffled pack, which is reshuffled whenever it runs out.

    A hand holds a member twice only if it is larger than the pack. Linear in the number of members dealt.
    """
    pack: list[int] = []
    start = 0
    for size in sizes:
        hand = pack[start : start + size]
        start += size
        tail = set(hand)
        while (lacking := size - len(hand)) > 0:
            fresh = rng.permutation(members).tolist()
            head = sorted(fresh, key=tail.__contains__)[:lacking]  # members that the hand lacks come first
            hand += head
            given = set(head)
            pack, start = [member for member in fresh if member not in given], 0
        yield hand


def apportion(total: int, fractions: Sequence[Fraction]) -> NDArray[np.int64]:
    """Return integers that sum to `total` by the method of largest remainders; the first wins a tie."""
    quotas = [total * fraction for fraction in fractions]
    counts = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda i: counts[i] - quotas[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return np.array(counts, dtype=np.int64)
