"""QMUL GRID."""

from pathlib import Path
from typing import ClassVar, Unpack

import numpy as np

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.matlab import read_mat
from reidlit.data.sample import Sample
from reidlit.data.splits import check_split_id

NAME = FileName("GRID", "0001_1_25004_107_32_106_221.jpeg", r"([0-9]{4})_([0-9])_")
NUM_SPLITS = 10
NUM_PEOPLE = 250
NUM_CAMERAS = 8


class GRID(ReIDDataModule):
    """QMUL underground re-identification (GRID): 250 identities, two images of each, eight cameras of a station.

    Source: Loy, Xiang and Gong, "Multi-camera Activity Correlation Analysis", CVPR 2009.
    Layout: `grid/underground_reid/{probe,gallery}` and `grid/underground_reid/features_and_partitions.mat`.
    Names: `0001_1_25004_107_32_106_221.jpeg` is identity 1, camera 1. Each identity has one image in `probe` and one in
    `gallery`; the 775 images of identity 0000 in `gallery` are of other people, and stay there as distractors.

    The splits are the authors' ten, 125 identities to train and 125 to test; the file names those to train.

    Args:
        root: the folder that holds `grid`.
        split_id: 0 to 9.
        loading: see `ReIDDataModule`.

    Raises:
        ValueError: if there is no such split.
    """

    name = "grid"
    folder = "grid"
    junk_pids = (0,)
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(125, 250, None),
        "query": Statistics(125, 125, None),
        "gallery": Statistics(126, 900, None),  # with identity 0
    }
    licence = "research use; no further terms of its authors are known"
    paper = "Loy et al., Multi-camera Activity Correlation Analysis, CVPR 2009"
    url = "https://personal.ie.cuhk.edu.hk/~ccloy/files/datasets/underground_reid.zip"

    def __init__(self, root: str, split_id: int = 0, **loading: Unpack[Loading]) -> None:
        super().__init__(root, **loading)
        self.split_id = check_split_id(self.name, split_id, NUM_SPLITS)

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if a folder or the file with the splits is missing.
            ValueError: if a name or that file does not parse, or an identity to train on has no image.
        """
        base = self.directory / "underground_reid"
        partitions = base / "features_and_partitions.mat"
        train = _people_to_train(partitions, self.split_id)
        probe, gallery = ([self.parse_name(path) for path in list_images(base / name)] for name in ("probe", "gallery"))
        for images, name in ((probe, "probe"), (gallery, "gallery")):
            if missing := sorted(train - {sample.pid for sample in images}):
                raise ValueError(
                    f"{base / name} has no image of identity {missing[0]}, which {partitions.name} names for training. "
                    "Unpack the archive again."
                )
        if split == "train":
            return [sample for sample in probe + gallery if sample.pid in train]
        return [sample for sample in (probe if split == "query" else gallery) if sample.pid not in train]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Read the identity and the camera from a file name."""
        pid, camera = NAME.numbers(path)
        if not (0 <= pid <= NUM_PEOPLE and 1 <= camera <= NUM_CAMERAS):
            raise ValueError(
                f"{path}: identity {pid} and camera {camera} must lie in 0 to {NUM_PEOPLE} and 1 to {NUM_CAMERAS}."
            )
        return Sample(str(path), pid, camera - 1)


def _people_to_train(partitions: Path, split_id: int) -> set[int]:
    if not partitions.is_file():
        raise FileNotFoundError(f"{partitions} does not exist; it holds the splits. Unpack the archive again.")
    splits = read_mat(partitions, ["trainIdxAll"])["trainIdxAll"]
    try:
        return {int(pid) for pid in np.ravel(splits[split_id]["personIdx"])}
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{partitions} does not hold trainIdxAll{{{split_id + 1}}}.personIdx ({error!r}). Unpack the archive again."
        ) from error
