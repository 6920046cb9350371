"""QMUL GRID dataset."""

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
    """QMUL underground re-identification (GRID), two images each of 250 identities from eight cameras of a station.

    Source: Loy, Xiang and Gong, "Multi-camera Activity Correlation Analysis", CVPR 2009.

    Protocol: results are averaged over the ten splits of the authors, with 125 identities for training and 125 for
    testing. The 775 gallery images of identity 0 show other people and stay in the gallery as distractors.

    Layout: `grid/underground_reid/{probe,gallery}`, with one image of each identity in both folders, and
    `grid/underground_reid/features_and_partitions.mat`, which contains the training identities of each split.

    File names: `0001_1_25004_107_32_106_221.jpeg` is an image of identity 1 from camera 1.

    Args:
        root: Folder that contains `grid`.
        split_id: Number of the split, 0 to 9.
        loading: Options of `ReIDDataModule`.

    Raises:
        ValueError: If `split_id` is out of range.
    """

    name = "grid"
    folder = "grid"
    junk_pids = (0,)
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(125, 250, None),
        "query": Statistics(125, 125, None),
        "gallery": Statistics(126, 900, None),  # including identity 0
    }
    licence = "research use; no other terms are known"
    paper = "Loy et al., Multi-camera Activity Correlation Analysis, CVPR 2009"
    url = "https://personal.ie.cuhk.edu.hk/~ccloy/files/datasets/underground_reid.zip"

    def __init__(self, root: str, split_id: int = 0, **loading: Unpack[Loading]) -> None:
        super().__init__(root, **loading)
        self.split_id = check_split_id(self.name, split_id, NUM_SPLITS)

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If a folder or the file with the splits is missing.
            ValueError: If a file name or the file with the splits is invalid, or a training identity has no image.
        """
        base = self.directory / "underground_reid"
        partitions = base / "features_and_partitions.mat"
        train = _training_pids(partitions, self.split_id)
        probe, gallery = ([self.parse_name(path) for path in list_images(base / name)] for name in ("probe", "gallery"))
        for images, name in ((probe, "probe"), (gallery, "gallery")):
            if missing := sorted(train - {sample.pid for sample in images}):
                raise ValueError(
                    f"{base / name} contains no image of identity {missing[0]}, which {partitions.name} lists for "
                    "training. Unpack the archive again."
                )
        if split == "train":
            return [sample for sample in probe + gallery if sample.pid in train]
        return [sample for sample in (probe if split == "query" else gallery) if sample.pid not in train]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Return the sample of an image file, with the identity and camera from its name."""
        pid, camera = NAME.numbers(path)
        if not (0 <= pid <= NUM_PEOPLE and 1 <= camera <= NUM_CAMERAS):
            raise ValueError(
                f"{path}: identity {pid} or camera {camera} is out of range: must be 0 to {NUM_PEOPLE} and 1 to "
                f"{NUM_CAMERAS}. Rename or remove the file."
            )
        return Sample(str(path), pid, camera - 1)


def _training_pids(partitions: Path, split_id: int) -> set[int]:
    if not partitions.is_file():
        raise FileNotFoundError(f"{partitions}, which contains the splits, does not exist. Unpack the archive again.")
    splits = read_mat(partitions, ["trainIdxAll"])["trainIdxAll"]
    try:
        return {int(pid) for pid in np.ravel(splits[split_id]["personIdx"])}
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{partitions} does not contain trainIdxAll{{{split_id + 1}}}.personIdx ({error!r}). Unpack the archive "
            "again."
        ) from error
