"""Sample lists and batch access shared by the sampler tests."""

import random

from reidlit.data.sample import Sample


def make_samples(sizes):
    """Return shuffled samples with `sizes[i]` images of identity i, from three cameras and two datasets."""
    samples = [
        Sample(f"{pid}_{i}.jpg", pid * 7 + 3, i % 3, pid % 2) for pid, size in enumerate(sizes) for i in range(size)
    ]
    random.Random(0).shuffle(samples)  # the samplers must not rely on the order of the list
    return samples


UNEVEN = make_samples([1, 2, 3, 4, 5, 8, 8, 9, 16, 40, 4, 4])


def batches(sampler, epoch=0):
    """Return the batches of an epoch."""
    sampler.set_epoch(epoch)
    return list(sampler)


def indices(sampler, epoch=0):
    """Return the sample indices of the batches of an epoch."""
    return [[draw.index for draw in batch] for batch in batches(sampler, epoch)]
