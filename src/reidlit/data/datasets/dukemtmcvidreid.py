"""DukeMTMC-VideoReID."""

import re
from pathlib import Path
from typing import ClassVar

from reidlit.data.datamodule import Split, Statistics
from reidlit.data.image_files import list_folders, list_images
from reidlit.data.sample import Sample
from reidlit.data.video import VideoDataModule

NAME = re.compile(r"([0-9]{4})(_?)C([1-8])\2F([0-9]{4,9})\2X[0-9]+\.[a-zA-Z]+")
PERSON = re.compile(r"[0-9]{4}")


class DukeMTMCVidReID(VideoDataModule):
    """DukeMTMC-VideoReID: 1,812 identities in tracklets of eight cameras on a campus; withdrawn by its authors in 2019.

    Source: Wu et al., "Exploit the Unknown Gradually: One-Shot Video-Based Person Re-Identification by Stepwise Learning",
    CVPR 2018; from the videos of Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera
    Tracking", ECCV Workshops 2016.
    Layout: `dukemtmc-vidreid/DukeMTMC-VideoReID/{train,query,gallery}/<identity>/<tracklet>/*.jpg`, or these three folders
    directly in `dukemtmc-vidreid`.
    Names: `0001C6F0099X30823.jpg`, or in a later release `0001_C6_F0099_X30823.jpg`, is identity 1, camera 6, frame 99 of
    its tracklet. 408 identities of the gallery are seen by one camera only and are distractors; they have numbers of their
    own.

    Args:
        root: the folder that holds `dukemtmc-vidreid`.
        loading: see `VideoDataModule`.
    """

    name = "dukemtmcvidreid"
    folder = "dukemtmc-vidreid"
    licence = "CC BY-NC-SA 4.0 when it was published; withdrawn since"
    paper = (
        "Wu et al., Exploit the Unknown Gradually: One-Shot Video-Based Person Re-Identification by Stepwise Learning, CVPR "
        "2018"
    )
    how_to_obtain = (
        "The authors of its videos withdrew them in 2019 and it is no longer given. A copy that you have goes to "
        "dukemtmc-vidreid/DukeMTMC-VideoReID."
    )
    usage_notice = (
        "DukeMTMC-VideoReID is made from videos that were withdrawn by their authors in 2019: they show people who were "
        "recorded on a campus without their consent, against the terms of the university's ethics board, and were taken "
        "down after public criticism. It is read here to repeat published results; do not pass it on, and prefer another "
        "dataset for new work."
    )
    archive = "DukeMTMC-VideoReID"
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(702, 2_196, 8),
        "query": Statistics(702, 702, 8),
        "gallery": Statistics(1_110, 2_636, 8),  # with the 408 distractors
    }

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if the split's folder is missing.
            ValueError: if a name does not parse, a tracklet is empty, or frames of different people or cameras are in one.
        """
        nested = self.directory / self.archive
        base = nested if nested.is_dir() else self.directory
        people = {person: _pid(person) for person in list_folders(base / split)}
        return [_tracklet(folder, pid) for person, pid in people.items() for folder in list_folders(person)]


def _pid(person: Path) -> int:
    if not PERSON.fullmatch(person.name):
        raise ValueError(f"{person} is not named as an identity's folder is (0001). Rename or remove it.")
    return int(person.name)


def _tracklet(folder: Path, pid: int) -> Sample:
    frames: dict[int, str] = {}
    cameras = set()
    for path in list_images(folder):
        match = NAME.fullmatch(path.name)
        if match is None or int(match[1]) != pid:
            raise ValueError(
                f"{path} is not named as frames of identity {pid} are ({pid:04d}C6F0099X30823.jpg or "
                f"{pid:04d}_C6_F0099_X30823.jpg). Rename or remove it."
            )
        frame = int(match[4])
        if frame in frames:
            raise ValueError(f"{path} and {frames[frame]} are both frame {frame} of a tracklet. Remove one.")
        frames[frame] = str(path)
        cameras.add(int(match[3]) - 1)
    if len(cameras) != 1:
        raise ValueError(f"{folder} holds frames of {len(cameras)} cameras instead of one. Unpack the archive again.")
    return Sample(tuple(frames[frame] for frame in sorted(frames)), pid, *cameras)
