"""Tracklets of people whom two cameras saw once each: a folder a camera, in it a folder a person."""

import re
from collections.abc import Sequence
from pathlib import Path

from reidlit.data.datamodule import Split
from reidlit.data.image_files import list_images, natural
from reidlit.data.sample import Sample

PERSON = re.compile(r"person_?([0-9]{1,9})")
FRAME = re.compile(r".*[0-9]\.[^.]+")  # numbered in temporal order
VIEWS: dict[Split, tuple[int, ...]] = {"train": (0, 1), "query": (0,), "gallery": (1,)}


def samples_of(cameras: Sequence[Path], people: Sequence[str], split: Split) -> list[Sample]:
    """Both cameras' tracklets to train on; to test, those of the first are the queries, those of the second the gallery.

    Args:
        cameras: the two folders; their positions are the camids.
        people: names of folders in both; the number in such a name is the pid.
        split: which.

    Raises:
        FileNotFoundError: if a camera's or a person's folder is missing.
        ValueError: if a name does not parse, or a folder holds no frame.
    """
    return [
        Sample(frames_of(cameras[camid] / person), number_of(person), camid)
        for camid in VIEWS[split]
        for person in people
    ]


def number_of(person: str) -> int:
    """The number of a person, from the folder's name.

    Raises:
        ValueError: if it has none.
    """
    match = PERSON.fullmatch(person)
    if match is None:
        raise ValueError(f"{person!r} is no name of a person's folder (person001). Rename or remove it.")
    return int(match[1])


def frames_of(folder: Path) -> tuple[str, ...]:
    """The frames of a tracklet in temporal order.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is empty or a name does not end in a number.
    """
    frames = list_images(folder)
    if not frames:
        raise ValueError(f"{folder} holds no frame. Unpack the archive again.")
    if odd := next((frame for frame in frames if not FRAME.fullmatch(frame.name)), None):
        raise ValueError(f"{odd} is not numbered as a frame is (00317.png). Rename or remove it.")
    return tuple(str(frame) for frame in sorted(frames, key=lambda frame: natural(frame.name)))
