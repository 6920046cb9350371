"""VIPeR dataset."""

from itertools import zip_longest
from pathlib import Path
from typing import ClassVar, Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.sample import Sample
from reidlit.data.splits import check_split_id, drawn_order

NAME = FileName("VIPeR", "001_45.bmp", r"([0-9]{1,9})_[0-9]+\.")
NUM_SPLITS = 20
CAMERAS = ("cam_a", "cam_b")


class VIPeR(ReIDDataModule):
    """VIPeR, an image dataset of 632 identities with one image from each of two cameras with different viewpoints.

    Source: Gray, Brennan and Tao, "Evaluating Appearance Models for Recognition, Reacquisition, and Tracking",
    PETS 2007.

    Protocol: results are averaged over random splits with 316 identities for training and 316 for testing. Splits 2k
    and 2k + 1 have the same identities. In an even split, `cam_a` contains the queries and `cam_b` the gallery; an odd
    split swaps them. A model trained on an even split can be tested on the next odd one.

    Layout: `viper/VIPeR/{cam_a,cam_b}`. In sorted order, the n-th images of both folders show the same identity.

    File names: `001_45.bmp` is an image of identity 1, seen from 45 degrees. The numbers have gaps.

    Args:
        root: Folder that contains `viper`.
        split_id: Number of the split, 0 to 19.
        loading: Options of `ReIDDataModule`.

    Raises:
        ValueError: If `split_id` is out of range.
    """

    name = "viper"
    folder = "viper"
    licence = "research use; no other terms are known"
    paper = "Gray et al., Evaluating Appearance Models for Recognition, Reacquisition, and Tracking, PETS 2007"
    url = "https://users.soe.ucsc.edu/~manduchi/VIPeR.v1.0.zip"
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(316, 632, 2),
        "query": Statistics(316, 316, 1),
        "gallery": Statistics(316, 316, 1),
    }

    def __init__(self, root: str, split_id: int = 0, **loading: Unpack[Loading]) -> None:
        super().__init__(root, **loading)
        self.split_id = check_split_id(self.name, split_id, NUM_SPLITS)

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If the folder of a camera is missing.
            ValueError: If a file name is invalid or an image has no counterpart.
        """
        folders = [self.directory / "VIPeR" / camera for camera in CAMERAS]
        views = [[self.parse_name(path) for path in list_images(folder)] for folder in folders]
        _check_pairs(*views)
        pids = sorted({sample.pid for sample in views[0]})
        train = {pids[i] for i in drawn_order(len(pids), self.split_id // 2)[: len(pids) // 2]}
        if split == "train":
            return [sample for view in views for sample in view if sample.pid in train]
        camid = (self.split_id + (split == "gallery")) % 2
        return [sample for sample in views[camid] if sample.pid not in train]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Return the sample of an image file, with the identity from its name and the camera from its folder."""
        (pid,) = NAME.numbers(path)
        return Sample(str(path), pid, CAMERAS.index(path.parent.name))


def _check_pairs(first: list[Sample], second: list[Sample]) -> None:
    for a, b in zip_longest(first, second):
        if a is None or b is None:
            raise ValueError(
                f"{(a or b).path} has no counterpart in the other camera: cam_a contains {len(first)} images and cam_b "
                f"{len(second)}. Unpack the archive again."
            )
        if a.pid != b.pid:
            raise ValueError(
                f"{a.path} and {b.path} should show the same identity, but their names contain identities {a.pid} and "
                f"{b.pid}. An image is missing or renamed; unpack the archive again."
            )
