"""What a dataset lists and what a loader yields."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

from torch import Tensor

from reidlit.labels import UNKNOWN


class Sample(NamedTuple):
    """One image, or one tracklet, of one person seen by one camera.

    `path` is a file, or the tuple of a tracklet's frames in temporal order.
    """

    path: str | tuple[str, ...]
    pid: int
    camid: int
    dsetid: int = 0


def unlabelled_samples(paths: Iterable[str | Path]) -> list[Sample]:
    """Return samples of image files whose identities and cameras are unknown, in the order of `paths`."""
    return [Sample(str(path), UNKNOWN, UNKNOWN) for path in paths]


@dataclass(frozen=True, slots=True)
class Draw:
    """One training example to make: which sample, and a number that no other draw of the run has.

    The number seeds the augmentation, so that a batch does not depend on the count of workers or on what ran before.
    """

    index: int
    number: int


class Batch(TypedDict):
    """A collated batch.

    In training `pid` is the class label, 0 to C - 1; in evaluation it is the dataset's own identity number, and `query`
    tells queries from gallery entries.

    Tracklets come as clips of S frames: in training one each, so that K is B; in evaluation one or more each, and
    `tracklet` tells whose. Where a tracklet has too few frames for its last clip, `frame_mask` tells them from what
    fills it up.
    """

    image: Tensor  # (B, 3, H, W) uint8, channels-last in memory; of tracklets (K, S, 3, H, W)
    frame_mask: NotRequired[Tensor]  # (K, S) bool
    tracklet: NotRequired[Tensor]  # (K,) int64, 0 to B - 1
    pid: Tensor  # (B,) int64
    camid: Tensor  # (B,) int64
    dsetid: Tensor  # (B,) int64
    index: Tensor  # (B,) int64, position in the dataset's list
    query: Tensor  # (B,) bool


def first_frame(path: str | tuple[str, ...]) -> str:
    """The image file, or the first of a tracklet's."""
    return path if isinstance(path, str) else path[0]


def readable(path: str) -> str:
    """A path as text, also where its name is not UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode()
