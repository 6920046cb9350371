"""Batches with so many images of each camera or dataset."""

import math
from collections import Counter
from fractions import Fraction

import pytest

from helpers.samplers import batches, indices
from reidlit.data.sample import Sample
from reidlit.data.samplers import DatasetBatches, DomainBatches, WeightedBatches

SIZES = {0: 1, 2: 3, 3: 8, 5: 13, 6: 40, 9: 100}  # by camera; numbers with gaps
CAMERAS = [Sample("x.jpg", 0, camid) for i in range(100) for camid, size in SIZES.items() if i < size]
DATASETS = [Sample("x.jpg", 0, -1, sample.camid) for sample in CAMERAS]
BOTH = [
    (CAMERAS, lambda number, **options: DomainBatches(CAMERAS, num_cams=number, **options)),
    (DATASETS, lambda number, **options: DatasetBatches(DATASETS, num_datasets=number, **options)),
]


def source(index):
    return CAMERAS[index].camid


def check_packs(epoch):
    """No image comes again before all of its source came as often, and none twice in a batch without need."""
    used = Counter()
    for batch in epoch:
        asked = Counter(map(source, batch))
        for index, times in Counter(batch).items():
            assert times <= math.ceil(asked[source(index)] / SIZES[source(index)])
        used.update(batch)
        for camera in SIZES:
            uses = [used[index] for index in range(len(CAMERAS)) if source(index) == camera]
            assert max(uses) - min(uses) <= 1


@pytest.mark.parametrize("make", [make for _, make in BOTH], ids=["domain", "dataset"])
@pytest.mark.parametrize(("batch_size", "number"), [(12, None), (12, 6), (12, 4), (12, 1), (20, 5), (4, 2), (24, 3)])
def test_each_source_of_a_batch_has_the_same_number(make, batch_size, number):
    there = number or len(SIZES)
    for seed in range(5):
        sampler = make(number, batch_size=batch_size, seed=seed)
        epoch = indices(sampler)
        assert len(epoch) == len(sampler) == len(CAMERAS) // batch_size
        for batch in epoch:
            images = Counter(map(source, batch))
            assert len(images) == there
            assert set(images.values()) == {batch_size // there}
        drawn = Counter(camera for batch in epoch for camera in set(map(source, batch)))
        assert max(drawn[camera] for camera in SIZES) - min(drawn[camera] for camera in SIZES) <= 1
        check_packs(epoch)


def test_ranks_have_images_of_every_camera_of_the_batch():
    for rank in range(3):
        for share in indices(DomainBatches(CAMERAS, 24, seed=0, rank=rank, world_size=3, num_cams=4)):
            assert set(Counter(map(source, share)).values()) == {2}


def test_which_cameras_meet_and_which_come_once_more_is_drawn():
    samples = [Sample("x.jpg", 0, camid) for camid in range(5) for _ in range(9)]
    more, met = Counter(), Counter()
    for epoch in range(50):
        drawn = [
            sorted({samples[i].camid for i in batch})
            for batch in indices(DomainBatches(samples, 4, 0, num_cams=2), epoch)
        ]
        uses = Counter(camera for pair in drawn for camera in pair)
        more.update(camera for camera in uses if uses[camera] == 5)
        met.update(map(tuple, drawn))
    assert len(more) == 5  # 11 batches: two cameras come five times
    assert len(met) == 10
    assert max(met.values()) < 2 * min(met.values())


def test_packs_are_shuffled_anew():
    samples = [Sample("x.jpg", 0, camid) for camid, size in enumerate([8, 72]) for _ in range(size)]
    halves = [frozenset(i for i in batch if i < 8) for batch in indices(DomainBatches(samples, 8, seed=0))]
    assert [len(half) for half in halves] == [4] * 10
    assert all(halves[i] | halves[i + 1] == set(range(8)) for i in range(0, 10, 2))
    assert len(set(halves)) > 6


@pytest.mark.parametrize("weights", [None, [0, 1, 2, 3, 4, 5], [0.7, 0.1, 0.1, 0.05, 0.05, 1e-6], [1, 1, 2, 2, 3, 3]])
@pytest.mark.parametrize(("batch_size", "num_draws"), [(12, None), (16, 100), (5, 1000)])
def test_weights_are_kept_in_every_batch_and_in_the_epoch(weights, batch_size, num_draws):
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
                part = batch_size * weight / sum(exact)
                assert images[camera] in (math.floor(part), math.ceil(part))
        for camera, weight in zip(SIZES, exact, strict=True):
            part = len(epoch) * batch_size * weight / sum(exact)
            assert total[camera] in (math.floor(part), math.ceil(part))
        check_packs(epoch)


def test_weights_that_divide_the_batch_are_exact():
    samples = [Sample("x.jpg", 0, 0, dsetid) for dsetid in (0, 1, 4) for _ in range(50)]
    for weights in ([0.1, 0.2, 0.7], [1, 2, 7], [10, 20, 70]):  # 0.1 + 0.2 + 0.7 is not 1 in floats
        for share in indices(WeightedBatches(samples, 20, seed=0, rank=1, world_size=2, weights=weights)):
            assert Counter(samples[index].dsetid for index in share) == {0: 1, 1: 2, 4: 7}


def test_which_batches_round_up_is_drawn():
    sampler = WeightedBatches(DATASETS, 8, seed=0)  # 8 / 6 each
    ups = [
        [{c for c, n in Counter(map(source, batch)).items() if n == 2} for batch in indices(sampler, e)] for e in (0, 1)
    ]
    assert len(set(map(frozenset, ups[0]))) > 8
    assert ups[0] != ups[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DomainBatches(DATASETS[:99] + CAMERAS[:7], 12, 0), "99 of 106 training samples have none .*random"),
        (lambda: DomainBatches(CAMERAS, 12, 0, num_cams=7), "sampler.num_cams=7: .* 6 cameras; take 1 to 6, or null"),
        (lambda: DomainBatches(CAMERAS, 12, 0, num_cams=0), "sampler.num_cams=0: .* take 1 to 6"),
        (lambda: DomainBatches(CAMERAS, 16, 0), "num_cams=null takes 6 cameras .*data.batch_size=12, or"),
        (lambda: DomainBatches(CAMERAS, 64, 0, 0, 4, num_cams=5), "num_cams=5 .*data.batch_size=60, or"),
        (lambda: DatasetBatches(DATASETS, 12, 0, num_datasets=9), "sampler.num_datasets=9: .* 6 datasets"),
        (lambda: DatasetBatches(DATASETS, 12, 0, num_datasets=5), "sampler.num_datasets=5 takes .* batch_size=12"),
        (lambda: WeightedBatches(DATASETS, 12, 0, weights=[1, 2]), r"weights=\[1, 2\]: .* 6 datasets \(dsetid \[0, 2"),
        (lambda: WeightedBatches(DATASETS, 12, 0, weights=[1, 1, 1, 1, 1, -1]), "weights are 0 or more"),
        (lambda: WeightedBatches(DATASETS, 12, 0, weights=[math.nan] * 6), "weights are 0 or more"),
        (lambda: WeightedBatches(DATASETS, 12, 0, weights=[0] * 6), "one is above 0"),
        (lambda: WeightedBatches(DATASETS, 12, 0, num_draws=11), "num_draws=11 .* batch_size=12: .* no batch"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_one_dataset_is_allowed():
    samples = [Sample("x.jpg", 0, 0) for _ in range(20)]
    for sampler in (DatasetBatches(samples, 8, seed=0), WeightedBatches(samples, 8, seed=0)):
        drawn = [draw.index for batch in batches(sampler) for draw in batch]
        assert len(drawn) == len(set(drawn)) == 16
