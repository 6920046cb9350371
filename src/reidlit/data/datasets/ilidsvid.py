"""iLIDS-VID dataset."""

from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np

from reidlit.data.datamodule import Split, Statistics
from reidlit.data.datasets.person_folders import person_number, person_samples
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
    """iLIDS-VID, a video dataset of 300 identities, with one tracklet from each of two cameras in an airport.

    Source: Wang, Gong, Zhu and Wang, "Person Re-Identification by Video Ranking", ECCV 2014.

    Protocol: results are averaged over the ten splits of the authors, with 150 identities for training and 150 for
    testing. Tracklets of the first camera are the queries, those of the second camera the gallery.

    Layout: `ilids-vid/i-LIDS-VID/sequences/{cam1,cam2}/person001/*.png` and `ilids-vid/train-test people
    splits/train_test_splits_ilidsvid.mat`. Person numbers have gaps, and frame names end with the frame number. Each
    row of `ls_set` in the .mat file is a split: indices (from 1) into the sorted list of people, with the test
    identities first.

    Args:
        root: Folder that contains `ilids-vid`.
        split_id: Number of the split, 0 to 9.
        loading: Options of `VideoDataModule`.

    Raises:
        ValueError: If `split_id` is out of range.
    """

    name = "ilidsvid"
    folder = "ilids-vid"
    licence = "research use; based on i-LIDS footage of the UK Home Office"
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
        """List the samples of a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If a folder or the file with the splits is missing.
            ValueError: If people are missing, a folder or file name is invalid, or the file with the splits is damaged.
        """
        cameras = [self.directory / "i-LIDS-VID" / "sequences" / name for name in CAMERAS]
        first, second = ([folder.name for folder in list_folders(camera)] for camera in cameras)
        if first != second or len(first) != NUM_PEOPLE:
            raise ValueError(
                f"{cameras[0]} and {CAMERAS[1]} contain {len(first)} and {len(second)} people, but iLIDS-VID has the "
                f"same {NUM_PEOPLE} people in both. Unpack the archive again."
            )
        order = self._order()
        chosen = order[NUM_TEST:] if split == "train" else order[:NUM_TEST]
        return person_samples(cameras, sorted((first[i] for i in chosen), key=person_number), split)

    def _order(self) -> list[int]:
        """Return indices (from 0) into the sorted list of people, with the test identities first."""
        file = self.directory / "train-test people splits" / "train_test_splits_ilidsvid.mat"
        if not file.is_file():
            raise FileNotFoundError(f"{file}, which contains the splits, does not exist. Unpack the archive again.")
        order = [int(position) - 1 for position in _ls_set(file)[self.split_id]]
        if sorted(order) != list(range(NUM_PEOPLE)):
            raise ValueError(
                f"{file}: row {self.split_id + 1} of ls_set is not a permutation of 1 to {NUM_PEOPLE}. Unpack the "
                "archive again."
            )
        return order


def _ls_set(file: Path) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(read_mat(file, ["ls_set"])["ls_set"]).reshape(NUM_SPLITS, NUM_PEOPLE)
    except ValueError as error:
        raise ValueError(
            f"Cannot read ls_set ({NUM_SPLITS} x {NUM_PEOPLE}) from {file} ({error}). Unpack the archive again."
        ) from error
