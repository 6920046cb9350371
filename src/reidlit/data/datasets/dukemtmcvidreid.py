"""DukeMTMC-VideoReID dataset."""

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
    """DukeMTMC-VideoReID, a video dataset of 1,812 identities from eight cameras on a campus; withdrawn in 2019.

    Source: Wu et al., "Exploit the Unknown Gradually: One-Shot Video-Based Person Re-Identification by Stepwise
    Learning", CVPR 2018; videos from Ristani et al., "Performance Measures and a Data Set for Multi-Target,
    Multi-Camera Tracking", ECCV Workshops 2016.

    Protocol: 702 identities (2,196 tracklets) for training and 702 for testing, with 702 queries and 2,636 gallery
    tracklets. The gallery contains 408 more identities that were seen by one camera only; they are distractors with
    unique numbers.

    Layout: `dukemtmc-vidreid/DukeMTMC-VideoReID/{train,query,gallery}/<identity>/<tracklet>/*.jpg`, or these three
    folders directly in `dukemtmc-vidreid`.

    File names: `0001C6F0099X30823.jpg`, or `0001_C6_F0099_X30823.jpg` in a later release, is frame 99 of a tracklet of
    identity 1 from camera 6.

    Args:
        root: Folder that contains `dukemtmc-vidreid`.
        loading: Options of `VideoDataModule`.
    """

    name = "dukemtmcvidreid"
    folder = "dukemtmc-vidreid"
    licence = "CC BY-NC-SA 4.0 when published; withdrawn since"
    paper = (
        "Wu et al., Exploit the Unknown Gradually: One-Shot Video-Based Person Re-Identification by Stepwise "
        "Learning, CVPR 2018"
    )
    how_to_obtain = (
        "The videos of this dataset were withdrawn by their authors in 2019, and it is no longer available. Place an "
        "existing copy in dukemtmc-vidreid/DukeMTMC-VideoReID."
    )
    usage_notice = (
        "The videos of DukeMTMC-VideoReID were withdrawn by their authors in 2019 after public criticism. They show "
        "people who were recorded on a campus without their consent and in violation of the terms of the university's "
        "ethics board. The dataset is supported only to reproduce published results. Do not redistribute it, and use "
        "another dataset for new work."
    )
    archive = "DukeMTMC-VideoReID"
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(702, 2_196, 8),
        "query": Statistics(702, 702, 8),
        "gallery": Statistics(1_110, 2_636, 8),  # including 408 distractor identities
    }

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If the folder of the split is missing.
            ValueError: If a name is invalid, or a tracklet is empty or mixes people, cameras or frame numbers.
        """
        nested = self.directory / self.archive
        base = nested if nested.is_dir() else self.directory
        people = {person: _pid(person) for person in list_folders(base / split)}
        return [_tracklet(folder, pid) for person, pid in people.items() for folder in list_folders(person)]


def _pid(person: Path) -> int:
    if not PERSON.fullmatch(person.name):
        raise ValueError(f"{person} is not a valid identity folder: expected a name such as 0001. Rename or remove it.")
    return int(person.name)


def _tracklet(folder: Path, pid: int) -> Sample:
    frames: dict[int, str] = {}
    cameras = set()
    for path in list_images(folder):
        match = NAME.fullmatch(path.name)
        if match is None or int(match[1]) != pid:
            raise ValueError(
                f"{path} is not a valid frame name of identity {pid}: expected a name such as "
                f"{pid:04d}C6F0099X30823.jpg or {pid:04d}_C6_F0099_X30823.jpg. Rename or remove it."
            )
        frame = int(match[4])
        if frame in frames:
            raise ValueError(
                f"{path} and {frames[frame]} are both frame {frame} of the same tracklet. Remove one of them."
            )
        frames[frame] = str(path)
        cameras.add(int(match[3]) - 1)
    if len(cameras) != 1:
        raise ValueError(f"{folder} contains frames of {len(cameras)} cameras instead of 1. Unpack the archive again.")
    return Sample(tuple(frames[frame] for frame in sorted(frames)), pid, *cameras)
