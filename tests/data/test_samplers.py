"""Batch samplers: exact length, shares of the ranks, what decides the order."""

import random
import time
from collections import Counter
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from helpers.samplers import UNEVEN, batches, indices, listing
from reidlit.data.domain_samplers import DatasetBatches, DomainBatches, WeightedBatches
from reidlit.data.identity_samplers import CameraIdentityBatches, IdentityBatches
from reidlit.data.sample import Draw, Sample
from reidlit.data.samplers import RandomBatches, SequentialBatches, distinct_batches

SAMPLERS = {
    "random": RandomBatches,
    "sequential": partial(SequentialBatches, drop_last=True),
    "identity": IdentityBatches,
    "camera_identity": CameraIdentityBatches,
    "domain": partial(DomainBatches, num_cams=2),
    "dataset": DatasetBatches,
    "weighted": partial(WeightedBatches, weights=[1, 4.3]),
}


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
class TestAll:
    def test_numbers_are_the_count_of_draws(self, make):
        sampler = make(UNEVEN, 16, seed=1)
        numbers = [draw.number for epoch in range(3) for batch in batches(sampler, epoch) for draw in batch]
        assert numbers == list(range(3 * 16 * len(sampler)))

    def test_draws_are_plain(self, make):
        draw = batches(make(UNEVEN, 16, seed=1))[0][0]
        assert type(draw) is Draw
        assert type(draw.index) is int
        assert type(draw.number) is int

    @pytest.mark.parametrize("seed", range(30))
    def test_length_is_exact(self, make, seed):
        sampler = make(UNEVEN, 8, seed=seed)
        for epoch in range(3):
            drawn = batches(sampler, epoch)
            assert len(drawn) == len(sampler)
            assert {len(batch) for batch in drawn} == {8}

    @pytest.mark.parametrize("world_size", [2, 4, 8])
    def test_ranks_share_the_same_batches(self, make, world_size):
        whole = batches(make(UNEVEN, 16, seed=5), epoch=2)
        shares = [batches(make(UNEVEN, 16, seed=5, rank=r, world_size=world_size), epoch=2) for r in range(world_size)]
        assert all(len(share) == len(whole) for share in shares)
        for batch, *parts in zip(whole, *shares, strict=True):
            assert {len(part) for part in parts} == {16 // world_size}
            assert [draw for part in parts for draw in part] == batch

    def test_seed_and_epoch_decide(self, make):
        first = indices(make(UNEVEN, 16, seed=5), 1)
        again = make(UNEVEN, 16, seed=5)
        others = [indices(again, 0), indices(again, 2), indices(make(UNEVEN, 16, seed=6), 1)]
        assert indices(again, 1) == first
        listed = make is SAMPLERS["sequential"]  # always the same order
        assert [other == first for other in others] == [listed] * 3

    def test_global_generators_are_neither_read_nor_moved(self, make):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        first = batches(make(UNEVEN, 16, seed=5))
        assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
        random.seed(9), np.random.seed(9), torch.manual_seed(9)  # noqa: NPY002
        assert batches(make(UNEVEN, 16, seed=5)) == first

    def test_lightning_reaches_set_epoch(self, make):
        from lightning_fabric.utilities.data import _set_sampler_epoch

        sampler = make(UNEVEN, 16, seed=0)
        loader = DataLoader(UNEVEN, batch_sampler=sampler)
        _set_sampler_epoch(loader, 4)
        assert sampler.epoch == 4
        assert len(loader) == len(sampler)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"batch_size": 0}, "batch_size=0"),
            ({"world_size": 3}, "batch_size=16 .* take 15"),
            ({"rank": 1}, "rank=1"),
            ({"rank": -1}, "rank=-1"),
            ({"world_size": 0}, "world_size=0"),
            ({"seed": -1}, "seed=-1"),
            ({"samples": []}, "batch_size=16"),
            ({"samples": UNEVEN[:3]}, "batch_size=16"),
        ],
    )
    def test_errors(self, make, arguments, message):
        with pytest.raises(ValueError, match=message):
            make(**{"samples": UNEVEN, "batch_size": 16, "seed": 0, **arguments})

    def test_negative_epoch(self, make):
        with pytest.raises(ValueError, match="epoch=-1"):
            make(UNEVEN, 16, seed=0).set_epoch(-1)

    def test_many_samples_take_no_time(self, make, many):
        assert least_time(lambda: make(many, 64, seed=0)) < 1
        sampler = make(many[:32_621], 64, seed=0)  # the size of MSMT17
        assert least_time(lambda: list(sampler)) < 0.2


@pytest.fixture(scope="module")
def many():
    """Half a million samples of 20,000 identities, 15 cameras, 2 datasets."""
    return [Sample("x.jpg", i * 7919 % 20_000, i % 15, i % 2) for i in range(500_000)]


def least_time(call):
    """Seconds of processor time, of the fastest of three calls."""
    times = []
    for _ in range(3):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def test_random_epoch_has_no_repeat_and_leaves_out_others():
    samples = listing([25])
    sampler = RandomBatches(samples, 8, seed=0)
    seen = [[draw.index for batch in batches(sampler, epoch) for draw in batch] for epoch in range(40)]
    assert all(len(epoch) == len(set(epoch)) == 24 for epoch in seen)
    assert len({next(iter(set(range(25)) - set(epoch))) for epoch in seen}) > 10


def test_random_keeps_the_rest():
    sampler = RandomBatches(listing([26]), 8, seed=0, drop_last=False, rank=1, world_size=2)
    drawn = batches(sampler)
    assert [len(batch) for batch in drawn] == [4, 4, 4, 1]
    assert len(sampler) == 4
    with pytest.raises(ValueError, match="last batch of 1"):
        RandomBatches(listing([25]), 8, seed=0, drop_last=False, world_size=2)


def test_random_is_uniform():
    sampler = RandomBatches(listing([20]), 10, seed=0)
    first = Counter(batches(sampler, epoch)[0][0].index for epoch in range(2000))
    assert len(first) == 20
    assert all(60 < count < 145 for count in first.values())  # 100 +- 4.6 sigma


def test_sequential_is_the_list():
    samples = listing([26])
    assert indices(SequentialBatches(samples, 8, seed=0), 3) == [[*range(i, min(i + 8, 26))] for i in (0, 8, 16, 24)]
    assert indices(SequentialBatches(samples, 8, seed=0, drop_last=True)) == [[*range(i, i + 8)] for i in (0, 8, 16)]
    assert indices(SequentialBatches(samples, 8, seed=0, rank=1, world_size=2))[2:] == [[20, 21, 22, 23], [25]]
    with pytest.raises(ValueError, match=r"last batch of 2 samples, which 4 devices .*drop_last=true"):
        SequentialBatches(samples, 8, seed=0, world_size=4)


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


@pytest.mark.parametrize("name", SAMPLERS)
def test_configured(name, pytestconfig):
    settings = OmegaConf.load(pytestconfig.rootpath / "conf" / "sampler" / f"{name}.yaml")
    sampler = instantiate(settings)(samples=UNEVEN[:96], batch_size=24, seed=0, rank=1, world_size=2)
    assert {len(batch) for batch in sampler} == {12}
