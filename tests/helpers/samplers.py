"""What the tests of batch samplers share: lists of samples, and an epoch's batches."""

import random

from reidlit.data.sample import Sample


def listing(sizes):
    """Identities of so many images, over three cameras and two datasets, in no order."""
    samples = [
        Sample(f"{pid}_{i}.jpg", pid * 7 + 3, i % 3, pid % 2) for pid, size in enumerate(sizes) for i in range(size)
    ]
    random.Random(0).shuffle(samples)  # the samplers must not rely on the order of the list
    return samples


UNEVEN = listing([1, 2, 3, 4, 5, 8, 8, 9, 16, 40, 4, 4])


def batches(sampler, epoch=0):
    """The batches of an epoch."""
    sampler.set_epoch(epoch)
    return list(sampler)


def indices(sampler, epoch=0):
    """The samples in them."""
    return [[draw.index for draw in batch] for batch in batches(sampler, epoch)]
