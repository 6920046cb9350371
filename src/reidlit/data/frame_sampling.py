"""Which frames of a tracklet make a clip."""

import random
from collections.abc import Callable
from typing import Literal

TrainSampling = Literal["segments", "even", "random", "dense"]
TestSampling = Literal["even", "all"]


def even(length: int, count: int) -> list[int]:
    """The middles of `count` equal parts of the whole tracklet; frames of a short one recur.

    Args:
        length: frames of the tracklet.
        count: frames wanted.

    Returns:
        `count` places, 0 to length - 1, in temporal order.
    """
    return [(2 * part + 1) * length // (2 * count) for part in range(count)]


def segments(length: int, count: int, generator: random.Random) -> list[int]:
    """One frame by chance from each of `count` equal parts; see `even`.

    Source: Wang et al., "Temporal Segment Networks: Towards Good Practices for Deep Action Recognition", ECCV 2016.
    """
    bounds = [(part * length // count, (part + 1) * length // count) for part in range(count)]
    return [generator.randrange(first, max(first + 1, last)) for first, last in bounds]


def scattered(length: int, count: int, generator: random.Random) -> list[int]:
    """`count` frames by chance, each once if there are enough; see `even`."""
    if length < count:
        return sorted(generator.choices(range(length), k=count))
    return sorted(generator.sample(range(length), count))


def dense(length: int, count: int, generator: random.Random) -> list[int]:
    """`count` frames in a row from a place drawn by chance; a short tracklet is stretched as by `even`."""
    if length < count:
        return even(length, count)
    first = generator.randrange(length - count + 1)
    return list(range(first, first + count))


_BY_CHANCE: dict[str, Callable[[int, int, random.Random], list[int]]] = {
    "segments": segments,
    "random": scattered,
    "dense": dense,
}


def training_clip(length: int, count: int, sampling: TrainSampling, generator: random.Random) -> list[int]:
    """The frames of one training example, by the name of a way to choose them."""
    return even(length, count) if sampling == "even" else _BY_CHANCE[sampling](length, count, generator)


def eval_clips(length: int, count: int, sampling: TestSampling) -> list[list[int]]:
    """The frames of each clip of a tracklet that is tested: one clip, or all frames in clips of at most `count`."""
    if sampling == "even":
        return [even(length, count)]
    return [list(range(first, min(first + count, length))) for first in range(0, length, count)]
