"""Selection of the frames of a tracklet that form a clip."""

import random
from collections.abc import Callable
from typing import Literal

TrainSampling = Literal["segments", "even", "random", "dense"]
TestSampling = Literal["even", "all"]


def even(length: int, count: int) -> list[int]:
    """Return the middle frames of `count` equal segments of the tracklet; frames of a short tracklet repeat.

    Args:
        length: Number of frames of the tracklet.
        count: Number of frames to select.

    Returns:
        `count` positions from 0 to length - 1 in temporal order.
    """
    return [(2 * segment + 1) * length // (2 * count) for segment in range(count)]


def segments(length: int, count: int, generator: random.Random) -> list[int]:
    """Return one random frame of each of `count` equal segments of the tracklet; see `even`.

    Wang et al., "Temporal Segment Networks: Towards Good Practices for Deep Action Recognition", ECCV 2016.
    """
    bounds = [(segment * length // count, (segment + 1) * length // count) for segment in range(count)]
    return [generator.randrange(first, max(first + 1, last)) for first, last in bounds]


def scattered(length: int, count: int, generator: random.Random) -> list[int]:
    """Return `count` random frames, without repeats if the tracklet has enough frames; see `even`."""
    if length < count:
        return sorted(generator.choices(range(length), k=count))
    return sorted(generator.sample(range(length), count))


def dense(length: int, count: int, generator: random.Random) -> list[int]:
    """Return `count` consecutive frames from a random start; a short tracklet is stretched as in `even`."""
    if length < count:
        return even(length, count)
    first = generator.randrange(length - count + 1)
    return list(range(first, first + count))


_RANDOM_SAMPLING: dict[str, Callable[[int, int, random.Random], list[int]]] = {
    "segments": segments,
    "random": scattered,
    "dense": dense,
}


def training_clip(length: int, count: int, sampling: TrainSampling, generator: random.Random) -> list[int]:
    """Return the frames of a training clip of `count` frames, selected by the method `sampling`."""
    return even(length, count) if sampling == "even" else _RANDOM_SAMPLING[sampling](length, count, generator)


def eval_clips(length: int, count: int, sampling: TestSampling) -> list[list[int]]:
    """Return the frames of each clip of a test tracklet: one clip, or all frames in clips of at most `count` frames."""
    if sampling == "even":
        return [even(length, count)]
    return [list(range(first, min(first + count, length))) for first in range(0, length, count)]
