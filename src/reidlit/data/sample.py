"""Data types of samples and batches."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

from torch import Tensor

from reidlit.labels import UNKNOWN


class Sample(NamedTuple):
    """Image or tracklet of one person seen by one camera.

    Attributes:
        path: Path of the image, or paths of the frames of a tracklet in temporal order.
        pid: Identity number, or -1 if unknown.
        camid: Camera number, or negative if unknown.
        dsetid: Number of the source dataset.
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
    """Request for one training example.

    Attributes:
        index: Index of the sample.
        number: Number that is unique within the run. It seeds the augmentation, so that a batch does not depend on the
            number of workers or on interruptions.
    """

    index: int
    number: int


class Batch(TypedDict):
    """Collated batch.

    In training, `pid` is the class label, 0 to C - 1. In evaluation, it is the identity number of the dataset, and
    `query` marks the queries.

    Tracklets are loaded as K clips of S frames. In training, each tracklet has one clip, so K equals B. In evaluation,
    a tracklet may have several clips, and `tracklet` contains the tracklet index of each. `frame_mask` is False for
    frames that pad the last clip of a tracklet.
    """

    image: Tensor  # (B, 3, H, W) uint8, channels-last memory format; (K, S, 3, H, W) for tracklets
    frame_mask: NotRequired[Tensor]  # (K, S) bool, False for padding
    tracklet: NotRequired[Tensor]  # (K,) int64, 0 to B - 1
    pid: Tensor  # (B,) int64
    camid: Tensor  # (B,) int64
    dsetid: Tensor  # (B,) int64
    index: Tensor  # (B,) int64, index in the list of samples
    query: Tensor  # (B,) bool


def first_frame(path: str | tuple[str, ...]) -> str:
    """Return the path of an image, or of the first frame of a tracklet."""
    return path if isinstance(path, str) else path[0]


def readable(path: str) -> str:
    """Return a path as valid UTF-8 text, with undecodable bytes escaped."""
    return path.encode("utf-8", "backslashreplace").decode()
