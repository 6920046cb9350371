"""Samplers that draw every sample at most once per epoch."""

from collections import Counter

import pytest

from helpers.samplers import batches, indices, make_samples
from reidlit.data.samplers import RandomBatches, SequentialBatches


def test_random_epoch_has_no_repeats_and_drops_different_samples():
    samples = make_samples([25])
    sampler = RandomBatches(samples, 8, seed=0)
    epochs = [[draw.index for batch in batches(sampler, epoch) for draw in batch] for epoch in range(40)]
    assert all(len(epoch) == len(set(epoch)) == 24 for epoch in epochs)
    assert len({next(iter(set(range(25)) - set(epoch))) for epoch in epochs}) > 10


def test_random_keeps_the_last_batch_without_drop_last():
    sampler = RandomBatches(make_samples([26]), 8, seed=0, drop_last=False, rank=1, world_size=2)
    epoch = batches(sampler)
    assert [len(batch) for batch in epoch] == [4, 4, 4, 1]
    assert len(sampler) == 4
    with pytest.raises(ValueError, match=r"drop_last=False\b.*\b1\b.*\b2 devices"):
        RandomBatches(make_samples([25]), 8, seed=0, drop_last=False, world_size=2)


def test_random_is_uniform():
    sampler = RandomBatches(make_samples([20]), 10, seed=0)
    first = Counter(batches(sampler, epoch)[0][0].index for epoch in range(2000))
    assert len(first) == 20
    assert all(60 < count < 145 for count in first.values())  # 100 +- 4.6 sigma


def test_sequential_keeps_the_order_of_the_list():
    samples = make_samples([26])
    assert indices(SequentialBatches(samples, 8, seed=0), 3) == [[*range(i, min(i + 8, 26))] for i in (0, 8, 16, 24)]
    assert indices(SequentialBatches(samples, 8, seed=0, drop_last=True)) == [[*range(i, i + 8)] for i in (0, 8, 16)]
    assert indices(SequentialBatches(samples, 8, seed=0, rank=1, world_size=2))[2:] == [[20, 21, 22, 23], [25]]
    with pytest.raises(ValueError, match=r"\b2 samples\b.*\b4 devices\b.*drop_last=true"):
        SequentialBatches(samples, 8, seed=0, world_size=4)
