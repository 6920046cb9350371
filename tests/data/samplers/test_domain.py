"""Samplers that fix the number of images per camera or dataset in a batch."""

import math
from collections import Counter
from fractions import Fraction

import pytest

from helpers.samplers import batches, indices
from reidlit.data.sample import Sample
from reidlit.data.samplers import DatasetBatches, DomainBatches, WeightedBatches

SIZES = {0: 1, 2: 3, 3: 8, 5: 13, 6: 40, 9: 100}  # images per camera; the camids have gaps
CAMERAS = [Sample("x.jpg", 0, camid) for i in range(100) for camid, size in SIZES.items() if i < size]
DATASETS = [Sample("x.jpg", 0, -1, sample.camid) for sample in CAMERAS]
SAMPLERS = {
    "domain": lambda count, **options: DomainBatches(CAMERAS, num_cams=count, **options),
    "dataset": lambda count, **options: DatasetBatches(DATASETS, num_datasets=count, **options),
}


def source(index):
    return CAMERAS[index].camid


def check_repeats(epoch):
    """Check that images repeat only when their source is exhausted, and within a batch only if the source is too small."""
    used = Counter()
    for batch in epoch:
        source_counts = Counter(map(source, batch))
        for index, times in Counter(batch).items():
            assert times <= math.ceil(source_counts[source(index)] / SIZES[source(index)])
        used.update(batch)
        for camera in SIZES:
            uses = [used[index] for index in range(len(CAMERAS)) if source(index) == camera]
            assert max(uses) - min(uses) <= 1


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize(("batch_size", "count"), [(12, None), (12, 6), (12, 4), (12, 1), (20, 5), (4, 2), (24, 3)])
def test_sources_of_a_batch_have_equal_counts(make, batch_size, count):
    sources_per_batch = count or len(SIZES)
    for seed in range(5):
        sampler = make(count, batch_size=batch_size, seed=seed)
        epoch = indices(sampler)
        assert len(epoch) == len(sampler) == len(CAMERAS) // batch_size
        for batch in epoch:
            images = Counter(map(source, batch))
            assert len(images) == sources_per_batch
            assert set(images.values()) == {batch_size // sources_per_batch}
        uses = Counter(camera for batch in epoch for camera in set(map(source, batch)))
        assert max(uses[camera] for camera in SIZES) - min(uses[camera] for camera in SIZES) <= 1
        check_repeats(epoch)


def test_each_rank_receives_every_camera_of_the_batch():
    for rank in range(3):
        for rank_batch in indices(DomainBatches(CAMERAS, 24, seed=0, rank=rank, world_size=3, num_cams=4)):
            assert set(Counter(map(source, rank_batch)).values()) == {2}


def test_camera_pairs_and_additional_uses_are_random():
    samples = [Sample("x.jpg", 0, camid) for camid in range(5) for _ in range(9)]
    additional_uses, pair_counts = Counter(), Counter()
    for epoch in range(50):
        pairs = [
            sorted({samples[i].camid for i in batch})
            for batch in indices(DomainBatches(samples, 4, 0, num_cams=2), epoch)
        ]
        uses = Counter(camera for pair in pairs for camera in pair)
        additional_uses.update(camera for camera in uses if uses[camera] == 5)
        pair_counts.update(map(tuple, pairs))
    assert len(additional_uses) == 5  # 11 batches: two cameras are used five times
    assert len(pair_counts) == 10
    assert max(pair_counts.values()) < 2 * min(pair_counts.values())


def test_exhausted_sources_are_reshuffled():
    samples = [Sample("x.jpg", 0, camid) for camid, size in enumerate([8, 72]) for _ in range(size)]
    halves = [frozenset(i for i in batch if i < 8) for batch in indices(DomainBatches(samples, 8, seed=0))]
    assert [len(half) for half in halves] == [4] * 10
    assert all(halves[i] | halves[i + 1] == set(range(8)) for i in range(0, 10, 2))
    assert len(set(halves)) > 6


@pytest.mark.parametrize("weights", [None, [0, 1, 2, 3, 4, 5], [0.7, 0.1, 0.1, 0.05, 0.05, 1e-6], [1, 1, 2, 2, 3, 3]])
@pytest.mark.parametrize(("batch_size", "num_draws"), [(12, None), (16, 100), (5, 1000)])
def test_weights_hold_in_every_batch_and_in_the_epoch(weights, batch_size, num_draws):
    exact = [Fraction(str(weight)) for weight in weights or [1] * 6]
    sampler = WeightedBatches(DATASETS, batch_size, seed=3, weights=weights, num_draws=num_draws)
    for number in range(3):
        epoch = indices(sampler, number)
        assert len(epoch) == len(sampler) == (num_draws or len(DATASETS)) // batch_size
        total = Counter()
        for batch in epoch:
            assert len(batch) == batch_size
            total.update(images := Counter(map(source, batch)))
            for camera, weight in zip(SIZES, exact, strict=True):
                quota = batch_size * weight / sum(exact)
                assert images[camera] in (math.floor(quota), math.ceil(quota))
        for camera, weight in zip(SIZES, exact, strict=True):
            quota = len(epoch) * batch_size * weight / sum(exact)
            assert total[camera] in (math.floor(quota), math.ceil(quota))
        check_repeats(epoch)


def test_weights_that_divide_the_batch_are_exact():
    samples = [Sample("x.jpg", 0, 0, dsetid) for dsetid in (0, 1, 4) for _ in range(50)]
    for weights in ([0.1, 0.2, 0.7], [1, 2, 7], [10, 20, 70]):  # 0.1 + 0.2 + 0.7 is not 1 in floats
        for rank_batch in indices(WeightedBatches(samples, 20, seed=0, rank=1, world_size=2, weights=weights)):
            assert Counter(samples[index].dsetid for index in rank_batch) == {0: 1, 1: 2, 4: 7}


def test_batches_that_round_up_are_random():
    sampler = WeightedBatches(DATASETS, 8, seed=0)  # 8 / 6 images per dataset
    rounded_up = [
        [{c for c, n in Counter(map(source, batch)).items() if n == 2} for batch in indices(sampler, e)] for e in (0, 1)
    ]
    assert len(set(map(frozenset, rounded_up[0]))) > 8
    assert rounded_up[0] != rounded_up[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DomainBatches(DATASETS[:99] + CAMERAS[:7], 12, 0), r"\b99 of 106\b.*camid.*sampler=random"),
        (lambda: DomainBatches(CAMERAS, 12, 0, num_cams=7), r"sampler\.num_cams=7\b.*\b1\b.*\b6\b.*null"),
        (lambda: DomainBatches(CAMERAS, 12, 0, num_cams=0), r"sampler\.num_cams=0\b.*\b1\b.*\b6\b"),
        (lambda: DomainBatches(CAMERAS, 16, 0), r"num_cams=null\b.*\b6 cameras.*data\.batch_size=12\b"),
        (lambda: DomainBatches(CAMERAS, 64, 0, 0, 4, num_cams=5), r"num_cams=5\b.*data\.batch_size=60\b"),
        (lambda: DatasetBatches(DATASETS, 12, 0, num_datasets=9), r"sampler\.num_datasets=9\b.*\b6\b.*datasets"),
        (lambda: DatasetBatches(DATASETS, 12, 0, num_datasets=5), r"sampler\.num_datasets=5\b.*batch_size=12\b"),
        (lambda: WeightedBatches(DATASETS, 12, 0, weights=[1, 2]), r"weights=\[1, 2\].*\b6\b.*dsetid \[0, 2"),
        (lambda: WeightedBatches(DATASETS, 12, 0, weights=[1, 1, 1, 1, 1, -1]), r"weights=\[1, 1, 1, 1, 1, -1\]"),
        (lambda: WeightedBatches(DATASETS, 12, 0, weights=[math.nan] * 6), r"weights=\[nan,"),
        (lambda: WeightedBatches(DATASETS, 12, 0, weights=[0] * 6), r"weights=\[0, 0, 0, 0, 0, 0\]"),
        (lambda: WeightedBatches(DATASETS, 12, 0, num_draws=11), r"num_draws=11\b.*batch_size=12\b"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_single_dataset_is_accepted():
    samples = [Sample("x.jpg", 0, 0) for _ in range(20)]
    for sampler in (DatasetBatches(samples, 8, seed=0), WeightedBatches(samples, 8, seed=0)):
        drawn = [draw.index for batch in batches(sampler) for draw in batch]
        assert len(drawn) == len(set(drawn)) == 16
