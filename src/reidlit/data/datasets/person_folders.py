"""Tracklets of people seen once by each of two cameras, in one folder per camera and person."""

import re
from collections.abc import Sequence
from pathlib import Path

from reidlit.data.datamodule import Split
from reidlit.data.image_files import list_images, natural
from reidlit.data.sample import Sample

PERSON = re.compile(r"person_?([0-9]{1,9})")
FRAME = re.compile(r".*[0-9]\.[^.]+")  # numbered in temporal order
VIEWS: dict[Split, tuple[int, ...]] = {"train": (0, 1), "query": (0,), "gallery": (1,)}


def person_samples(cameras: Sequence[Path], people: Sequence[str], split: Split) -> list[Sample]:
    """List tracklets: of both cameras for training, of the first camera as queries, of the second as gallery.

    Args:
        cameras: Folders of the two cameras; the camid is the index.
        people: Folder names of people; the pid is the number in the name.
        split: Split to list.

    Raises:
        FileNotFoundError: If the folder of a camera or person is missing.
        ValueError: If a name is invalid or a folder contains no frames.
    """
    return [
        Sample(sorted_frames(cameras[camid] / person), person_number(person), camid)
        for camid in VIEWS[split]
        for person in people
    ]


def person_number(person: str) -> int:
    """Return the number in a folder name such as `person_0001` or `person001`.

    Raises:
        ValueError: If the name is invalid.
    """
    match = PERSON.fullmatch(person)
    if match is None:
        raise ValueError(
            f"{person!r} is not a valid folder name: expected a name such as person001. Rename or remove it."
        )
    return int(match[1])


def sorted_frames(folder: Path) -> tuple[str, ...]:
    """Return the frames of a tracklet in temporal order.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If the folder is empty or a file name does not end with a number.
    """
    frames = list_images(folder)
    if not frames:
        raise ValueError(f"{folder} contains no frames. Unpack the archive again.")
    if invalid := next((frame for frame in frames if not FRAME.fullmatch(frame.name)), None):
        raise ValueError(
            f"{invalid} is not a valid frame name: expected a name such as 00317.png. Rename or remove it."
        )
    return tuple(str(frame) for frame in sorted(frames, key=lambda frame: natural(frame.name)))
