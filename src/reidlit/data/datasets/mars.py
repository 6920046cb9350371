"""MARS dataset."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from reidlit.data.datamodule import Split, Statistics
from reidlit.data.matlab import read_mat
from reidlit.data.sample import Sample
from reidlit.data.video import VideoDataModule

HEAD = re.compile(r"(?:[0-9]{4}|00-1)C[1-6]")  # identity and camera
JUNK = -1  # ignored by the protocol
NUM_CAMERAS = 6


class Mars(VideoDataModule):
    """MARS, a video dataset of 20,000 tracklets of 1,261 identities from six cameras, the video version of Market-1501.

    Source: Zheng et al., "MARS: A Video Benchmark for Large-Scale Person Re-Identification", ECCV 2016.

    Protocol: 625 identities (8,298 tracklets) for training; 1,980 queries of 626 identities and 9,330 gallery tracklets
    for testing. Identity 0 contains false detections and unlabeled people and stays in the gallery as a distractor; -1
    is junk and is skipped. Queries without a gallery tracklet are excluded from the scores, as in the authors'
    evaluation.

    Layout: `mars/{bbox_train,bbox_test}`, and in `mars/info` the files `{train,test}_name.txt`,
    `tracks_{train,test}_info.mat` and `query_IDX.mat`. The name files list all frames in order. Each row of the .mat
    files is a tracklet: its first and last line in the name file (from 1), identity and camera.

    File names: `0001C1T0002F003.jpg` is frame 3 of tracklet 2 of identity 1 from camera 1, in the folder `0001`.

    Args:
        root: Folder that contains `mars`.
        loading: Options of `VideoDataModule`.
    """

    name = "mars"
    folder = "mars"
    junk_pids = (JUNK, 0)
    licence = "research use only; not to be redistributed"
    paper = "Zheng et al., MARS: A Video Benchmark for Large-Scale Person Re-Identification, ECCV 2016"
    how_to_obtain = (
        "Download bbox_train.zip and bbox_test.zip from https://zheng-lab-anu.github.io/Project/project_mars.html and "
        "unpack both in mars. Download the folder info from https://github.com/liangzheng06/MARS-evaluation and place "
        "it in mars/info."
    )
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(625, 8_298, NUM_CAMERAS),
        "query": Statistics(626, 1_980, None),
        "gallery": Statistics(622, 9_330, None),  # including identity 0
    }

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If the folder of the frames or a file in `info` is missing.
            ValueError: If a file in `info` is damaged or contradicts another.
        """
        part = "train" if split == "train" else "test"
        images, info = self.directory / f"bbox_{part}", self.directory / "info"
        if not images.is_dir():
            raise FileNotFoundError(f"{images} does not exist. {self.how_to_obtain}")
        file = info / f"tracks_{part}_info.mat"
        tracks = self._read(file, f"track_{part}_info").reshape(-1, 4)
        if split != "train":
            tracks = tracks[self._is_query(len(tracks)) == (split == "query")]
        names = self._names(info / f"{part}_name.txt")
        samples = [_tracklet(images, names, row, file) for row in tracks.tolist()]
        return [sample for sample in samples if sample.pid != JUNK]

    def _is_query(self, count: int) -> np.ndarray[Any, Any]:
        """Return a (count,) bool mask of the test tracklets that are queries."""
        file = self.directory / "info" / "query_IDX.mat"
        positions = self._read(file, "query_IDX").ravel() - 1
        if positions.size and not (positions.min() >= 0 and positions.max() < count):
            raise ValueError(
                f"{file}: query_IDX must be between 1 and {count}, the number of test tracklets. {self.how_to_obtain}"
            )
        mask = np.zeros(count, bool)
        mask[positions] = True
        return mask

    def _names(self, file: Path) -> list[str]:
        if not file.is_file():
            raise FileNotFoundError(f"{file}, which lists the frames, does not exist. {self.how_to_obtain}")
        return file.read_text(encoding="ascii", errors="replace").split()

    def _read(self, file: Path, variable: str) -> np.ndarray[Any, Any]:
        try:
            return np.asarray(read_mat(file, [variable])[variable]).astype(np.int64)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error} It lists the tracklets. {self.how_to_obtain}") from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"Cannot read {variable}: {error} {self.how_to_obtain}") from error


def _tracklet(images: Path, names: Sequence[str], row: Sequence[int], file: Path) -> Sample:
    first, last, pid, camera = row
    if not (1 <= first <= last <= len(names) and pid >= JUNK and 1 <= camera <= NUM_CAMERAS):
        raise ValueError(
            f"{file}: the tracklet with lines {first} to {last}, identity {pid} and camera {camera} is invalid: there "
            f"are {len(names)} frames and {NUM_CAMERAS} cameras. Download the folder info again."
        )
    frames = names[first - 1 : last]
    heads = sorted({name[:6] for name in frames})
    if len(heads) > 1 or not HEAD.fullmatch(heads[0]):
        raise ValueError(
            f"{file}: the frames on lines {first} to {last}, {frames[0]!r} to {frames[-1]!r}, do not have a common "
            "identity and camera. Download the folder info again."
        )
    folder = images / frames[0][:4]
    return Sample(tuple(f"{folder}{os.sep}{name}" for name in frames), pid, camera - 1)
