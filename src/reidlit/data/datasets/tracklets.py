"""Custom video datasets, in folders or listed in a CSV file."""

import math
from collections import defaultdict
from functools import cached_property
from pathlib import PurePosixPath

from reidlit.data.datamodule import Split
from reidlit.data.datasets.csv_file import CSVFile
from reidlit.data.datasets.custom import CustomData
from reidlit.data.datasets.folder import Folder
from reidlit.data.image_files import natural
from reidlit.data.random_splits import Row
from reidlit.data.sample import Sample
from reidlit.data.video import VideoDataModule


class CustomTracklets(CustomData, VideoDataModule):
    """Mixin for custom video datasets, placed before a class that lists the frames as images.

    A subclass implements `tracklet_of`. Tracklets are split like the images of `CustomData`: all tracklets of an
    identity go to either train or test, and each camera of a test identity contributes one query.
    """

    def tracklet_of(self, frame: Row) -> Row:
        """Return the tracklet of a frame; its path is a folder or a name.

        Raises:
            ValueError: If the frame does not belong to a tracklet.
        """
        raise NotImplementedError

    def rows(self) -> list[Row]:
        """List all tracklets; see `CustomData.rows`.

        Raises:
            FileNotFoundError: If the data does not exist.
            ValueError: If the data is invalid or a tracklet has several identities, cameras or splits.
        """
        return list(self._frames)

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `CustomData.samples`."""
        return [sample._replace(path=self._files[str(sample.path)]) for sample in super().samples(split)]

    @cached_property
    def _files(self) -> dict[str, tuple[str, ...]]:
        """Paths of the frames, by the path of the tracklet."""
        return {
            str(self.directory / tracklet.path): tuple(str(self.directory / frame.path) for frame in frames)
            for tracklet, frames in self._frames.items()
        }

    @cached_property
    def _frames(self) -> dict[Row, list[Row]]:
        """Frames of each tracklet, in temporal order."""
        groups: dict[Row, list[Row]] = defaultdict(list)
        for frame in super().rows():
            groups[self.tracklet_of(frame)].append(frame)
        ordered = {tracklet: _sorted_frames(frames) for tracklet, frames in groups.items()}
        seen: dict[str, Row] = {}
        for tracklet, frames in ordered.items():
            other = seen.setdefault(tracklet.path, tracklet)
            if other != tracklet and not _is_query_in_gallery(tracklet, frames, other, ordered[other]):
                raise ValueError(
                    f"The tracklet {tracklet.path!r} has frames of {_labels(other)} and of {_labels(tracklet)}. A "
                    "tracklet must have one identity, camera and split. Only a complete tracklet may be both query "
                    "and gallery."
                )
        return ordered


class Tracklets(CustomTracklets, Folder):
    """Custom video dataset with one folder per identity; each folder below it that contains images is a tracklet.

    Layout: `<root>/<identity>/<camera>/<tracklet>/*.jpg`, or the same below `<root>/{train,query,gallery}` or
    `<root>/{train,test}`. Frames are sorted by name, with numbers compared by value, so that `2.jpg` precedes `10.jpg`.

    Args:
        root: See `Folder`.
        camera_pattern: Regular expression that is searched in the path of a frame below the identity's folder, such as
            `cam1/0003/0017.jpg`; its group is the camera name. `None` if cameras are unknown and the layout is
            `<root>/<identity>/<tracklet>/*.jpg`.
        test_fraction: See `Folder`.
        split_seed: See `Folder`.
        split_file: See `Folder`.
        loading: Options of `VideoDataModule`.
    """

    how_to_obtain = (
        "Arrange the frames as data.root/<identity>/<camera>/<tracklet>/*.jpg, optionally below "
        "data.root/{train,query,gallery} or data.root/{train,test}. If cameras are unknown, arrange them as "
        "data.root/<identity>/<tracklet>/*.jpg and set data.camera_pattern=null."
    )

    def tracklet_of(self, frame: Row) -> Row:
        """Return the folder of a frame; see `CustomTracklets.tracklet_of`."""
        folder = PurePosixPath(frame.path).parent
        identity_depth = 2 if frame.split else 1
        if len(folder.parts) == identity_depth:
            raise ValueError(
                f"{self.directory / frame.path} is in the folder of its identity instead of the folder of a tracklet. "
                f"{self.how_to_obtain} Use data=folder for single images."
            )
        return frame._replace(path=str(folder))


class TrackletsCSV(CustomTracklets, CSVFile):
    """Custom video dataset listed in a CSV file with one line per frame.

    The columns `path`, `pid` and `tracklet` are required. The columns `camid`, `split` and `dsetid` are optional, see
    `CSVFile`. The optional column `frame` is a number or time that orders the frames of a tracklet. Without it, frames
    are sorted by path, with numbers compared by value. Tracklets of different identities or cameras may have the same
    name.
    """

    how_to_obtain = (
        "List the frames in data.file with the columns path, pid and tracklet, and with camid, split and frame if "
        "they are known."
    )

    def tracklet_of(self, frame: Row) -> Row:
        """Return the tracklet named in the table; see `CustomTracklets.tracklet_of`."""
        if not frame.tracklet:
            raise ValueError(f"{self.file}: {frame.path!r} has no tracklet. Fill in the column tracklet on every line.")
        name = "/".join(part for part in (frame.pid, frame.camid, frame.tracklet) if part)
        return frame._replace(path=name, tracklet="", frame="")


def _sorted_frames(frames: list[Row]) -> list[Row]:
    if not any(frame.frame for frame in frames):
        return sorted(frames, key=lambda frame: natural(frame.path))
    by_number = {_number(frame): frame for frame in frames}
    if len(by_number) < len(frames):
        duplicate = next(frame for frame in frames if by_number[_number(frame)] != frame)
        raise ValueError(
            f"frame={duplicate.frame} of {duplicate.path!r} is also the number of "
            f"{by_number[_number(duplicate)].path!r} in the same tracklet. Use unique numbers, or remove the column to "
            "sort frames by path."
        )
    return [by_number[number] for number in sorted(by_number)]


def _number(frame: Row) -> float:
    try:
        number = float(frame.frame)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"frame={frame.frame!r} of {frame.path!r} is invalid: must be a number on every line of a tracklet. Remove "
            "the column to sort frames by path."
        )
    return number


def _is_query_in_gallery(first: Row, first_frames: list[Row], second: Row, second_frames: list[Row]) -> bool:
    """Return True if both are the same tracklet, once as query and once in the gallery."""
    return (
        {first.split, second.split} == {"query", "gallery"}
        and first._replace(split="") == second._replace(split="")
        and [frame.path for frame in first_frames] == [frame.path for frame in second_frames]
    )


def _labels(tracklet: Row) -> str:
    labels = {"identity": tracklet.pid, "camera": tracklet.camid, "split": tracklet.split, "dataset": tracklet.dsetid}
    return ", ".join(f"{kind} {name!r}" for kind, name in labels.items() if name)
