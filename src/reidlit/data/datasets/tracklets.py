"""A user's own tracklets, in folders or in a table."""

import math
from collections import defaultdict
from functools import cached_property
from pathlib import PurePosixPath

from reidlit.data.datamodule import Split
from reidlit.data.datasets.csv_file import CSVFile
from reidlit.data.datasets.custom import OwnData
from reidlit.data.datasets.folder import Folder
from reidlit.data.image_files import natural
from reidlit.data.random_splits import Row
from reidlit.data.sample import Sample
from reidlit.data.video import VideoDataModule


class OwnTracklets(OwnData, VideoDataModule):
    """A user's own tracklets. It stands before a class that lists their frames; a subclass implements `tracklet_of`.

    Tracklets are split, drawn and counted as the images of `OwnData` are: whole identities go to train or test, and of each
    that is tested every camera gives one tracklet as query.
    """

    def tracklet_of(self, frame: Row) -> Row:
        """The tracklet to which a frame belongs; its path is a folder or a name.

        Raises:
            ValueError: if none is known.
        """
        raise NotImplementedError

    def rows(self) -> list[Row]:
        """List all tracklets; see `OwnData.rows`.

        Raises:
            FileNotFoundError: if the data is not there.
            ValueError: if it cannot be understood, or a tracklet is of two identities, cameras or splits.
        """
        return list(self._frames)

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `OwnData.samples`."""
        return [sample._replace(path=self._files[str(sample.path)]) for sample in super().samples(split)]

    @cached_property
    def _files(self) -> dict[str, tuple[str, ...]]:
        """The frames' files by the tracklet's path."""
        return {
            str(self.directory / tracklet.path): tuple(str(self.directory / frame.path) for frame in frames)
            for tracklet, frames in self._frames.items()
        }

    @cached_property
    def _frames(self) -> dict[Row, list[Row]]:
        """The frames of each tracklet, in order."""
        groups: dict[Row, list[Row]] = defaultdict(list)
        for frame in super().rows():
            groups[self.tracklet_of(frame)].append(frame)
        ordered = {tracklet: _in_order(frames) for tracklet, frames in groups.items()}
        seen: dict[str, Row] = {}
        for tracklet, frames in ordered.items():
            other = seen.setdefault(tracklet.path, tracklet)
            if other != tracklet and not _is_query_in_gallery(tracklet, frames, other, ordered[other]):
                raise ValueError(
                    f"The tracklet {tracklet.path!r} has frames of {_labels(other)} and of {_labels(tracklet)}. Each tracklet is "
                    "of one identity, camera and split; only one that is query and gallery may be listed twice, whole."
                )
        return ordered


class Tracklets(OwnTracklets, Folder):
    """Tracklets in folders of one identity: each folder below it that holds images is a tracklet, in the order of names.

    Layout: `<root>/<identity>/<camera>/<tracklet>/*.jpg`, or the same below `<root>/{train,query,gallery}` or
    `<root>/{train,test}`. Numbers in the names of frames count by value: `2.jpg` comes before `10.jpg`.

    Args:
        root: see `Folder`, as all that is not named here.
        camera_pattern: a regular expression that is searched in a frame's path below the identity's folder, such as
            `cam1/0003/0017.jpg`; its group is the camera. `null` if no cameras are known: `<root>/<identity>/<tracklet>/*.jpg`.
        test_fraction: likewise.
        split_seed: likewise.
        split_file: likewise.
        loading: see `VideoDataModule`.
    """

    how_to_obtain = (
        "Lay the frames out as data.root/<identity>/<camera>/<tracklet>/*.jpg, or so below data.root/{train,query,gallery} or "
        "data.root/{train,test}; or as data.root/<identity>/<tracklet>/*.jpg with data.camera_pattern=null."
    )

    def tracklet_of(self, frame: Row) -> Row:
        """See `OwnTracklets.tracklet_of`."""
        folder = PurePosixPath(frame.path).parent
        identity = 2 if frame.split else 1  # folders from the root to the identity's
        if len(folder.parts) == identity:
            raise ValueError(
                f"{self.directory / frame.path} lies in its identity's folder, in that of no tracklet. {self.how_to_obtain} For "
                "single images there is data=folder."
            )
        return frame._replace(path=str(folder))


class TrackletsCSV(OwnTracklets, CSVFile):
    """Tracklets whose frames a CSV file lists, a frame a line.

    Columns: `path`, `pid` and `tracklet`, and where they are known `camid`, `split` and `dsetid`, see `CSVFile`, and `frame`,
    a number or a time by which the frames of a tracklet are ordered; without it they are in the order of their paths, where
    numbers count by value. Two tracklets of different identities or cameras may have the same name.
    """

    how_to_obtain = "List the frames in data.file, with the columns path, pid and tracklet, and camid, split and frame where they are known."

    def tracklet_of(self, frame: Row) -> Row:
        """See `OwnTracklets.tracklet_of`."""
        if not frame.tracklet:
            raise ValueError(f"{self.file}: {frame.path!r} has no tracklet. Fill in the column tracklet on every line.")
        name = "/".join(part for part in (frame.pid, frame.camid, frame.tracklet) if part)
        return frame._replace(path=name, tracklet="", frame="")


def _in_order(frames: list[Row]) -> list[Row]:
    if not any(frame.frame for frame in frames):
        return sorted(frames, key=lambda frame: natural(frame.path))
    by_number = {_number(frame): frame for frame in frames}
    if len(by_number) < len(frames):
        twin = next(frame for frame in frames if by_number[_number(frame)] != frame)
        raise ValueError(
            f"frame={twin.frame} of {twin.path!r} is also that of {by_number[_number(twin)].path!r}, in one tracklet. Number "
            "each frame once, or leave the column out to order them by their paths."
        )
    return [by_number[number] for number in sorted(by_number)]


def _number(frame: Row) -> float:
    try:
        number = float(frame.frame)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"frame={frame.frame!r} of {frame.path!r} must be a number, on every line of a tracklet, or leave the column out "
            "to order the frames by their paths."
        )
    return number


def _is_query_in_gallery(one: Row, frames: list[Row], other: Row, others: list[Row]) -> bool:
    """Whether these are the same tracklet in query and in gallery."""
    return (
        {one.split, other.split} == {"query", "gallery"}
        and one._replace(split="") == other._replace(split="")
        and [frame.path for frame in frames] == [frame.path for frame in others]
    )


def _labels(tracklet: Row) -> str:
    known = {"identity": tracklet.pid, "camera": tracklet.camid, "split": tracklet.split, "dataset": tracklet.dsetid}
    return ", ".join(f"{what} {name!r}" for what, name in known.items() if name)
