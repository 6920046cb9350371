"""Random draws without replacement."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from reidlit.data.samplers.draws import distinct_batches


@pytest.mark.parametrize(
    ("counts", "size"),
    [([3, 3, 3], 3), ([5, 5, 1, 1, 1, 1, 1], 3), ([4, 3, 2, 1, 0], 1), ([6, 6, 6, 6, 6, 5, 1], 6), ([1] * 12, 4)],
)
def test_distinct_batches_use_every_count_even_if_there_is_no_choice(counts, size):
    for seed in range(50):
        batches = distinct_batches(np.array(counts), size, np.random.default_rng(seed))
        assert batches.shape == (sum(counts) // size, size)
        assert all(len(set(batch)) == size for batch in batches.tolist())
        assert np.bincount(batches.ravel(), minlength=len(counts)).tolist() == counts


def test_first_batch_is_drawn_in_proportion_to_the_counts():
    rng = np.random.default_rng(0)
    first_batches = [distinct_batches(np.array([4, 4, 3, 2, 1]), 2, rng)[0].tolist() for _ in range(4000)]
    # Naive reference: draw two of the 14 tickets that belong to different items.
    tickets = [0] * 4 + [1] * 4 + [2] * 3 + [3] * 2 + [4]
    expected = Counter()
    for _ in range(4000):
        first = tickets[rng.integers(14)]
        remaining = [item for item in tickets if item != first]
        expected.update([(first, remaining[rng.integers(len(remaining))])])
    actual = Counter(map(tuple, map(sorted, first_batches)))
    for pair in combinations(range(5), 2):
        assert abs(actual[pair] - expected[pair] - expected[pair[::-1]]) < 160  # 4 sigma: 40 * 4


def test_items_of_a_batch_are_in_random_order():
    batches = distinct_batches(np.array([400] + [1] * 400), 2, np.random.default_rng(0))
    assert 160 < np.count_nonzero(batches[:, 0] == 0) < 240  # although item 0 is in every batch
