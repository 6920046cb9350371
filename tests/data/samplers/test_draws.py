"""Draws without replacement."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from reidlit.data.samplers.draws import distinct_batches


@pytest.mark.parametrize(
    ("counts", "size"),
    [([3, 3, 3], 3), ([5, 5, 1, 1, 1, 1, 1], 3), ([4, 3, 2, 1, 0], 1), ([6, 6, 6, 6, 6, 5, 1], 6), ([1] * 12, 4)],
)
def test_distinct_batches_fit_even_where_there_is_no_choice(counts, size):
    for seed in range(50):
        drawn = distinct_batches(np.array(counts), size, np.random.default_rng(seed))
        assert drawn.shape == (sum(counts) // size, size)
        assert all(len(set(batch)) == size for batch in drawn.tolist())
        assert np.bincount(drawn.ravel(), minlength=len(counts)).tolist() == counts


def test_distinct_batches_are_drawn_in_proportion():
    rng = np.random.default_rng(0)
    first = [distinct_batches(np.array([4, 4, 3, 2, 1]), 2, rng)[0].tolist() for _ in range(4000)]
    # Naive: two of the 14 tickets, of different owners
    owners = [0] * 4 + [1] * 4 + [2] * 3 + [3] * 2 + [4]
    naive = Counter()
    for _ in range(4000):
        one = owners[rng.integers(14)]
        other = [owner for owner in owners if owner != one]
        naive.update([(one, other[rng.integers(len(other))])])
    drawn = Counter(map(tuple, map(sorted, first)))
    for pair in combinations(range(5), 2):
        assert abs(drawn[pair] - naive[pair] - naive[pair[::-1]]) < 160  # 4 sigma: 40 * 4


def test_distinct_batches_have_no_order():
    drawn = distinct_batches(np.array([400] + [1] * 400), 2, np.random.default_rng(0))
    assert 160 < np.count_nonzero(drawn[:, 0] == 0) < 240  # though the first thing is in every batch
