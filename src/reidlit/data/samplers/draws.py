"""Random draws without replacement, and apportionment."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


def distinct_batches(counts: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw batches of distinct items such that item i occurs in exactly `counts[i]` batches.

    The items of a batch are drawn without replacement, in proportion to their remaining counts. Items that every remaining
    batch needs are added first, so the draw never fails. The time is linear in the sum of the counts.

    Args:
        counts: (N,) number of batches per item, each at most the number of batches, which is `sum(counts) / size`.
        size: Number of items in a batch.
        rng: Random generator; advanced by this call.

    Returns:
        (batches, size) items from 0 to N - 1, in random order within each batch.
    """
    tickets = np.repeat(np.arange(len(counts)), counts).tolist()
    remaining = counts.tolist()
    by_remaining: dict[int, dict[int, None]] = defaultdict(dict)
    for item, count in enumerate(remaining):
        by_remaining[count][item] = None
    uniform = _uniform(rng)
    forced: dict[int, None] = {}  # an item that every remaining batch needs stays forced until the end
    batches = []
    for batches_left in range(len(tickets) // size, 0, -1):
        forced |= by_remaining.pop(batches_left, {})
        batch = forced.copy()
        while len(batch) < size:
            position = int(next(uniform) * len(tickets))
            item = tickets[position]
            if item in batch and item not in forced:
                continue
            tickets[position] = tickets[-1]  # remove the ticket; those of forced items are no longer needed
            tickets.pop()
            if item not in forced:
                batch[item] = None
                del by_remaining[remaining[item]][item]
                remaining[item] -= 1
                by_remaining[remaining[item]][item] = None
        batches.append(list(batch))
    return rng.permuted(np.array(batches, dtype=np.int64), axis=1)


def _uniform(rng: np.random.Generator) -> Iterator[float]:
    """Yield random numbers from [0, 1), generated in blocks for speed."""
    while True:
        yield from rng.random(4096).tolist()


def deal(members: NDArray[np.int64], sizes: Iterable[int], rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield groups of the given sizes from a shuffled list of the members, which is reshuffled when it is exhausted.

    A group contains a member twice only if it is larger than the list. The time is linear in the number of yielded members.
    """
    shuffled: list[int] = []
    start = 0
    for size in sizes:
        group = shuffled[start : start + size]
        start += size
        tail = set(group)
        while (missing := size - len(group)) > 0:
            reshuffled = rng.permutation(members).tolist()
            head = sorted(reshuffled, key=tail.__contains__)[:missing]  # members that the group lacks come first
            group += head
            used = set(head)
            shuffled, start = [member for member in reshuffled if member not in used], 0
        yield group


def apportion(total: int, fractions: Sequence[Fraction]) -> NDArray[np.int64]:
    """Return integers that sum to `total` by the method of largest remainders; the earlier one wins a tie."""
    quotas = [total * fraction for fraction in fractions]
    counts = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda i: counts[i] - quotas[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return np.array(counts, dtype=np.int64)
