"""Batch samplers: exact length, distinctness, shares of the ranks."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from reidlit.data.sample import Draw, Sample
from reidlit.data.samplers import IdentityBatches, RandomBatches


def listing(sizes):
    samples = [Sample(f"{pid}_{i}.jpg", pid * 7 + 3, i % 3) for pid, size in enumerate(sizes) for i in range(size)]
    random.Random(0).shuffle(samples)  # the samplers must not rely on the order of the list
    return samples


UNEVEN = listing([1, 2, 3, 4, 5, 8, 8, 9, 16, 40, 4, 4])


def batches(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("make", [RandomBatches, IdentityBatches])
class TestBoth:
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
        first = [[draw.index for draw in batch] for batch in batches(make(UNEVEN, 16, seed=5), 1)]
        again = make(UNEVEN, 16, seed=5)
        batches(again, 0)
        assert [[draw.index for draw in batch] for batch in batches(again, 1)] == first
        assert [[draw.index for draw in batch] for batch in batches(again, 2)] != first
        assert [[draw.index for draw in batch] for batch in batches(make(UNEVEN, 16, seed=6), 1)] != first

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


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize(("batch_size", "k"), [(8, 4), (16, 4), (24, 2), (48, 4), (12, 1), (10, 5)])
def test_identity_batches_are_p_by_k(seed, batch_size, k):
    sampler = IdentityBatches(UNEVEN, batch_size, seed=seed, num_instances=k)
    sizes = Counter(sample.pid for sample in UNEVEN)
    used = Counter()
    for batch in batches(sampler):
        images = Counter(UNEVEN[draw.index].pid for draw in batch)
        assert len(images) == batch_size // k
        assert set(images.values()) == {k}
        for pid in images:
            drawn = [draw.index for draw in batch if UNEVEN[draw.index].pid == pid]
            assert len(set(drawn)) == min(k, sizes[pid])  # repeated only where there are too few
        for start in range(0, batch_size, k):  # an identity's images lie together
            assert len({UNEVEN[draw.index].pid for draw in batch[start : start + k]}) == 1
        used.update(draw.index for draw in batch)
    assert all(count == 1 for index, count in used.items() if sizes[UNEVEN[index].pid] >= k)


@pytest.mark.parametrize(
    "sizes", [[4] * 4, [4, 4, 4, 400], [8, 8, 4], [40, 40, 40, 4], [4, 8, 12, 16, 20, 24], [1, 1, 1]]
)
def test_identity_length_is_the_largest_possible(sizes):
    groups = [max(size // 4, 1) for size in sizes]
    # Naive: a number of batches T is possible if and only if the groups, at most T of an identity, fill T batches of 3
    best = max(t for t in range(1, 1000) if sum(min(group, t) for group in groups) >= 3 * t)
    for seed in range(20):
        sampler = IdentityBatches(listing(sizes), 12, seed=seed)
        assert len(sampler) == len(batches(sampler)) == best


def test_identity_leaves_out_others_every_epoch():
    samples = listing([6] * 5)
    sampler = IdentityBatches(samples, 16, seed=0)  # 5 groups, 4 fit
    assert len(sampler) == 1
    seen = Counter(draw.index for epoch in range(100) for batch in batches(sampler, epoch) for draw in batch)
    assert len(seen) == 30
    assert min(seen.values()) > 25


def test_identity_batches_mix_identities():
    samples = listing([40] * 40)
    sampler = IdentityBatches(samples, 16, seed=0)
    pairs = Counter()
    for batch in batches(sampler):
        pids = sorted({samples[draw.index].pid for draw in batch})
        pairs.update((a, b) for a in pids for b in pids if a < b)
    assert len(pairs) > 350  # 600 pairs drawn out of 780: 419 distinct ones expected of independent draws
    assert max(pairs.values()) <= 7


def test_ranks_get_whole_identities():
    samples = listing([8] * 10)
    for rank in range(2):
        for batch in batches(IdentityBatches(samples, 16, seed=0, rank=rank, world_size=2)):
            assert set(Counter(samples[draw.index].pid for draw in batch).values()) == {4}


@pytest.mark.parametrize(("k", "message"), [(3, "num_instances=3 .* data.batch_size=15"), (0, "num_instances=0")])
def test_identity_errors(k, message):
    with pytest.raises(ValueError, match=message):
        IdentityBatches(UNEVEN, 16, seed=0, num_instances=k)
    with pytest.raises(ValueError, match="needs 16 identities; the training set has 12"):
        IdentityBatches(UNEVEN, 64, seed=0)


@pytest.mark.parametrize("name", ["random", "identity"])
def test_configured(name, pytestconfig):
    partial = instantiate(OmegaConf.load(pytestconfig.rootpath / "conf" / "sampler" / f"{name}.yaml"))
    sampler = partial(samples=UNEVEN, batch_size=16, seed=0, rank=1, world_size=2)
    assert {len(batch) for batch in sampler} == {8}
