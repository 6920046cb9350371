"""PK samplers, with and without balancing over cameras."""

from collections import Counter

import pytest

from helpers.samplers import UNEVEN, batches, indices, make_samples
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
            assert len(set(drawn)) == min(k, sizes[pid])  # repeats only if there are fewer than K images
        for start in range(0, batch_size, k):  # the images of an identity are adjacent
            assert len({UNEVEN[draw.index].pid for draw in batch[start : start + k]}) == 1
        used.update(draw.index for draw in batch)
    assert all(count == 1 for index, count in used.items() if sizes[UNEVEN[index].pid] >= k)


@pytest.mark.parametrize(
    "sizes", [[4] * 4, [4, 4, 4, 400], [8, 8, 4], [40, 40, 40, 4], [4, 8, 12, 16, 20, 24], [1, 1, 1]]
)
def test_epoch_has_the_largest_possible_number_of_batches(sizes):
    groups = [max(size // 4, 1) for size in sizes]
    # Naive reference: T batches are possible if and only if the groups, at most T per identity, fill T batches of 3.
    best = max(t for t in range(1, 1000) if sum(min(group, t) for group in groups) >= 3 * t)
    for seed in range(20):
        sampler = IdentityBatches(make_samples(sizes), 12, seed=seed)
        assert len(sampler) == len(batches(sampler)) == best


def test_each_epoch_drops_different_groups():
    samples = make_samples([6] * 5)
    sampler = IdentityBatches(samples, 16, seed=0)  # 5 groups, and a batch takes 4
    assert len(sampler) == 1
    seen = Counter(draw.index for epoch in range(100) for batch in batches(sampler, epoch) for draw in batch)
    assert len(seen) == 30
    assert min(seen.values()) > 25


def test_batches_mix_identities():
    samples = make_samples([40] * 40)
    sampler = IdentityBatches(samples, 16, seed=0)
    pairs = Counter()
    for batch in batches(sampler):
        pids = sorted({samples[draw.index].pid for draw in batch})
        pairs.update((a, b) for a in pids for b in pids if a < b)
    assert len(pairs) > 350  # 600 of 780 possible pairs; independent draws would give 419 distinct ones
    assert max(pairs.values()) <= 7


def test_ranks_receive_complete_identities():
    samples = make_samples([8] * 10)
    for rank in range(2):
        for batch in batches(IdentityBatches(samples, 16, seed=0, rank=rank, world_size=2)):
            assert set(Counter(samples[draw.index].pid for draw in batch).values()) == {4}


@pytest.mark.parametrize(("k", "message"), [(3, r"num_instances=3\b.*data\.batch_size=15\b"), (0, "num_instances=0")])
def test_identity_errors(k, message):
    with pytest.raises(ValueError, match=message):
        IdentityBatches(UNEVEN, 16, seed=0, num_instances=k)
    with pytest.raises(ValueError, match=r"batch_size=64\b.*\b16 identities.*\b12\b"):
        IdentityBatches(UNEVEN, 64, seed=0)


IMAGES_PER_CAMERA = [  # one dict per identity: camid -> number of images
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
    Sample("x.jpg", pid, camid)
    for pid, cameras in enumerate(IMAGES_PER_CAMERA)
    for camid, n in cameras.items()
    for _ in range(n)
]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("batch_size", "k"), [(16, 4), (8, 2), (24, 6), (4, 1)])
def test_groups_are_balanced_over_cameras(seed, batch_size, k):
    sampler = CameraIdentityBatches(CAMERAS, batch_size, seed=seed, num_instances=k)
    assert len(sampler) == len(IdentityBatches(CAMERAS, batch_size, seed=seed, num_instances=k))
    used = Counter()
    for batch in indices(sampler):
        assert len({CAMERAS[index].pid for index in batch}) == batch_size // k
        for start in range(0, batch_size, k):
            group = batch[start : start + k]
            (pid,) = {CAMERAS[index].pid for index in group}
            available = IMAGES_PER_CAMERA[pid]
            assert len(set(group)) == min(k, sum(available.values()))
            images = Counter(CAMERAS[index].camid for index in set(group))
            assert len(images) == min(k, len(available))
            for camera, count in available.items():  # fewer images only from exhausted cameras
                assert max(images.values()) - images[camera] <= 1 or images[camera] == count
            used.update(set(group))
    for pid, available in enumerate(IMAGES_PER_CAMERA):  # the images of a camera are used equally often
        for camera in available:
            uses = [used[i] for i, sample in enumerate(CAMERAS) if (sample.pid, sample.camid) == (pid, camera)]
            assert max(uses) - min(uses) <= 1


def test_cameras_take_turns():
    samples = [Sample("x.jpg", pid, camid) for pid in range(2) for camid in range(6) for _ in range(pid * 9 + 1)]
    # Identity 1 has 15 groups of 4 from 6 cameras of 10 images; only one is paired with the single group of identity 0.
    for epoch in range(10):
        for batch in indices(CameraIdentityBatches(samples, 8, seed=0), epoch):
            assert len({samples[index].camid for index in batch if samples[index].pid == 1}) == 4
    one_identity = CameraIdentityBatches(samples[6:], 4, seed=0)
    uses = Counter(samples[6 + index].camid for batch in indices(one_identity) for index in batch)
    assert uses == dict.fromkeys(range(6), 10)


def test_each_unknown_camera_counts_as_its_own_camera():
    samples = [Sample("x.jpg", 0, camid) for camid in [0] * 9 + [-1, -1, -7]] + [Sample("x.jpg", 1, -1)] * 12
    sampler = CameraIdentityBatches(samples, 8, seed=0)
    assert len(sampler) == 3
    for batch in indices(sampler):
        assert sorted(samples[i].camid for i in batch if samples[i].pid == 0) == [-7, -1, -1, 0]
    other = [index for batch in indices(sampler) for index in batch if samples[index].pid == 1]
    assert sorted(other) == [*range(12, 24)]
