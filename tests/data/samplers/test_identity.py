"""Batches of P identities with K images each, and their cameras."""

from collections import Counter

import pytest

from helpers.samplers import UNEVEN, batches, indices, listing
from reidlit.data.sample import Sample
from reidlit.data.samplers import CameraIdentityBatches, IdentityBatches


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


SEEN = [  # images of each identity by camera
    {0: 40, 3: 1},
    {0: 8, 1: 4, 2: 2, 3: 2, 4: 1},
    {2: 1, 5: 2},
    {1: 9},
    {0: 3, 1: 3},
    {0: 2, 1: 1, 2: 1, 3: 1},
    {4: 1},
    {0: 5, 1: 5, 2: 1},
]
CAMERAS = [
    Sample("x.jpg", pid, camid) for pid, cameras in enumerate(SEEN) for camid, n in cameras.items() for _ in range(n)
]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("batch_size", "k"), [(16, 4), (8, 2), (24, 6), (4, 1)])
def test_cameras_share_an_identitys_images(seed, batch_size, k):
    sampler = CameraIdentityBatches(CAMERAS, batch_size, seed=seed, num_instances=k)
    assert len(sampler) == len(IdentityBatches(CAMERAS, batch_size, seed=seed, num_instances=k))
    used = Counter()
    for batch in indices(sampler):
        assert len({CAMERAS[index].pid for index in batch}) == batch_size // k
        for start in range(0, batch_size, k):
            group = batch[start : start + k]
            (pid,) = {CAMERAS[index].pid for index in group}
            there = SEEN[pid]
            assert len(set(group)) == min(k, sum(there.values()))
            images = Counter(CAMERAS[index].camid for index in set(group))
            assert len(images) == min(k, len(there))
            for camera, count in there.items():  # only a camera that gave all it has may lag behind
                assert max(images.values()) - images[camera] <= 1 or images[camera] == count
            used.update(set(group))
    for pid, there in enumerate(SEEN):  # a camera's images take turns
        for camera in there:
            uses = [used[i] for i, sample in enumerate(CAMERAS) if (sample.pid, sample.camid) == (pid, camera)]
            assert max(uses) - min(uses) <= 1


def test_cameras_take_turns():
    samples = [Sample("x.jpg", pid, camid) for pid in range(2) for camid in range(6) for _ in range(pid * 9 + 1)]
    for epoch in range(10):  # 15 groups of 4 by 6 cameras of 10, of which one fits beside the single group of the other
        for batch in indices(CameraIdentityBatches(samples, 8, seed=0), epoch):
            assert len({samples[index].camid for index in batch if samples[index].pid == 1}) == 4
    alone = CameraIdentityBatches(samples[6:], 4, seed=0)
    uses = Counter(samples[6 + index].camid for batch in indices(alone) for index in batch)
    assert uses == dict.fromkeys(range(6), 10)


def test_unknown_cameras_count_as_one_each():
    samples = [Sample("x.jpg", 0, camid) for camid in [0] * 9 + [-1, -1, -7]] + [Sample("x.jpg", 1, -1)] * 12
    sampler = CameraIdentityBatches(samples, 8, seed=0)
    assert len(sampler) == 3
    for batch in indices(sampler):
        assert sorted(samples[i].camid for i in batch if samples[i].pid == 0) == [-7, -1, -1, 0]
    other = [index for batch in indices(sampler) for index in batch if samples[index].pid == 1]
    assert sorted(other) == [*range(12, 24)]
