"""MARS."""

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
JUNK = -1  # the protocol ignores these
NUM_CAMERAS = 6


class Mars(VideoDataModule):
    """MARS: 1,261 identities of Market-1501 in 20,000 tracklets of six cameras, found by a detector and a tracker.

    Source: Zheng et al., "MARS: A Video Benchmark for Large-Scale Person Re-Identification", ECCV 2016.
    Layout: `mars/{bbox_train,bbox_test}`, and in `mars/info` the files `{train,test}_name.txt`,
    `tracks_{train,test}_info.mat` and `query_IDX.mat`.
    Names: `0001C1T0002F003.jpg` is identity 1, camera 1, tracklet 2, frame 3; it lies in the folder `0001`.

    The name files list all frames in order; a row of the .mat files is a tracklet: its first and last line there, from 1,
    identity and camera. The queries are some of the test tracklets, the gallery is the rest. Identity 0 is of false
    detections and of people without a label, and stays in the gallery as distractor; -1 is junk and is left out. Some
    queries have no tracklet in the gallery; the evaluation counts them and leaves them out, as the authors' does.

    Training and test identities are different people with different numbers, so that `combineall` trains on all of them.

    Args:
        root: the folder that holds `mars`.
        loading: see `VideoDataModule`.
    """

    name = "mars"
    folder = "mars"
    junk_pids = (JUNK, 0)
    licence = "research use only; not to be redistributed"
    paper = "Zheng et al., MARS: A Video Benchmark for Large-Scale Person Re-Identification, ECCV 2016"
    how_to_obtain = (
        "Its authors give the frames at https://zheng-lab-anu.github.io/Project/project_mars.html as bbox_train.zip and "
        "bbox_test.zip, to be unpacked one after the other; the folder info is that of "
        "https://github.com/liangzheng06/MARS-evaluation and goes to mars/info."
    )
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(625, 8_298, NUM_CAMERAS),
        "query": Statistics(626, 1_980, None),
        "gallery": Statistics(622, 9_330, None),  # with identity 0
    }

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if the frames' folder or a file of `info` is missing.
            ValueError: if such a file is damaged or does not agree with another.
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
        found = [_tracklet(images, names, row, file) for row in tracks.tolist()]
        return [sample for sample in found if sample.pid != JUNK]

    def _is_query(self, count: int) -> np.ndarray[Any, Any]:
        """Which of the test tracklets are queries, (count,) bool."""
        file = self.directory / "info" / "query_IDX.mat"
        positions = self._read(file, "query_IDX").ravel() - 1
        if positions.size and not (positions.min() >= 0 and positions.max() < count):
            raise ValueError(f"{file}: query_IDX must lie in 1 to {count}, the test tracklets. {self.how_to_obtain}")
        chosen = np.zeros(count, bool)
        chosen[positions] = True
        return chosen

    def _names(self, file: Path) -> list[str]:
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist; it names the frames. {self.how_to_obtain}")
        return file.read_text(encoding="ascii", errors="replace").split()

    def _read(self, file: Path, variable: str) -> np.ndarray[Any, Any]:
        try:
            return np.asarray(read_mat(file, [variable])[variable]).astype(np.int64)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error} It tells the tracklets. {self.how_to_obtain}") from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{variable} cannot be read: {error} {self.how_to_obtain}") from error


def _tracklet(images: Path, names: Sequence[str], row: Sequence[int], file: Path) -> Sample:
    first, last, pid, camera = row
    if not (1 <= first <= last <= len(names) and pid >= JUNK and 1 <= camera <= NUM_CAMERAS):
        raise ValueError(
            f"{file}: a tracklet of lines {first} to {last}, identity {pid}, camera {camera} cannot be: there are "
            f"{len(names)} names of frames and {NUM_CAMERAS} cameras. Get the folder info again."
        )
    frames = names[first - 1 : last]
    heads = sorted({name[:6] for name in frames})
    if len(heads) > 1 or not HEAD.fullmatch(heads[0]):
        raise ValueError(
            f"{file}: lines {first} to {last} of the names, {frames[0]!r} to {frames[-1]!r}, are not of one identity and "
            "camera, so they are no tracklet. Get the folder info again."
        )
    folder = images / frames[0][:4]
    return Sample(tuple(f"{folder}{os.sep}{name}" for name in frames), pid, camera - 1)
