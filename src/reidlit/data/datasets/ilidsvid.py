"""iLIDS-VID."""

from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np

from reidlit.data.datamodule import Split, Statistics
from reidlit.data.datasets.person_folders import number_of, samples_of
from reidlit.data.image_files import list_folders
from reidlit.data.matlab import read_mat
from reidlit.data.sample import Sample
from reidlit.data.splits import check_split_id
from reidlit.data.video import VideoDataModule, VideoLoading

NUM_SPLITS = 10
NUM_PEOPLE = 300
NUM_TEST = 150
CAMERAS = ("cam1", "cam2")


class ILIDSVID(VideoDataModule):
    """iLIDS-VID: 300 identities in an airport's arrival hall, a tracklet of each from each of two cameras.

    Source: Wang, Gong, Zhu and Wang, "Person Re-Identification by Video Ranking", ECCV 2014.
    Layout: `ilids-vid/i-LIDS-VID/sequences/{cam1,cam2}/person001/*.png` and
    `ilids-vid/train-test people splits/train_test_splits_ilidsvid.mat`. The people's numbers have gaps; the frames end in
    theirs.

    The protocol is the mean over the authors' ten splits, 150 identities to train and 150 to test: people of the first
    camera are searched for among those of the second. A row of the file's `ls_set` is a split: positions, from 1, in the
    sorted people, first those to test.

    Args:
        root: the folder that holds `ilids-vid`.
        split_id: 0 to 9.
        loading: see `VideoDataModule`.

    Raises:
        ValueError: if there is no such split.
    """

    name = "ilidsvid"
    folder = "ilids-vid"
    licence = "research use; the footage is that of the UK Home Office's i-LIDS"
    paper = "Wang et al., Person Re-Identification by Video Ranking, ECCV 2014"
    url = "https://www.eecs.qmul.ac.uk/~xiatian/iLIDS-VID/iLIDS-VID.tar"
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(150, 300, 2),
        "query": Statistics(150, 150, 1),
        "gallery": Statistics(150, 150, 1),
    }

    def __init__(self, root: str, split_id: int = 0, **loading: Unpack[VideoLoading]) -> None:
        super().__init__(root, **loading)
        self.split_id = check_split_id(self.name, split_id, NUM_SPLITS)

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if a folder or the file with the splits is missing.
            ValueError: if people are missing, of whom the splits know only the positions, or a name or that file does not
                parse.
        """
        cameras = [self.directory / "i-LIDS-VID" / "sequences" / name for name in CAMERAS]
        first, second = ([folder.name for folder in list_folders(camera)] for camera in cameras)
        if first != second or len(first) != NUM_PEOPLE:
            raise ValueError(
                f"{cameras[0]} and {CAMERAS[1]} hold {len(first)} and {len(second)} people; iLIDS-VID has the same "
                f"{NUM_PEOPLE} in both, and the splits count them. Unpack the archive again."
            )
        order = self._order()
        chosen = order[NUM_TEST:] if split == "train" else order[:NUM_TEST]
        return samples_of(cameras, sorted((first[i] for i in chosen), key=number_of), split)

    def _order(self) -> list[int]:
        """The people's positions, from 0, those to test first."""
        file = self.directory / "train-test people splits" / "train_test_splits_ilidsvid.mat"
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist; it holds the splits. Unpack the archive again.")
        order = [int(position) - 1 for position in _ls_set(file)[self.split_id]]
        if sorted(order) != list(range(NUM_PEOPLE)):
            raise ValueError(
                f"{file}: row {self.split_id + 1} of ls_set does not hold the numbers 1 to {NUM_PEOPLE}, each once. Unpack "
                "the archive again."
            )
        return order


def _ls_set(file: Path) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(read_mat(file, ["ls_set"])["ls_set"]).reshape(NUM_SPLITS, NUM_PEOPLE)
    except ValueError as error:
        raise ValueError(
            f"ls_set, {NUM_SPLITS} x {NUM_PEOPLE}, cannot be read from {file} ({error}). Unpack the archive again."
        ) from error
