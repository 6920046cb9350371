"""VIPeR."""

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
    """VIPeR: 632 identities, one image from each of two cameras, with a change of viewpoint between them.

    Source: Gray, Brennan and Tao, "Evaluating Appearance Models for Recognition, Reacquisition, and Tracking",
    PETS 2007.
    Layout: `viper/VIPeR/{cam_a,cam_b}`.
    Names: `001_45.bmp` is identity 1 seen from 45 degrees. The numbers have gaps. Each image of `cam_a` has its
    counterpart of the same identity at the same position of `cam_b`.

    The protocol is the mean over random halvings, each with both cameras as query: splits 2k and 2k + 1 share their
    identities, drawn among those that are there; an even split searches `cam_b` for the people of `cam_a`, an odd one the
    other way round. A model that was trained on an even split may be tested on the odd one after it.

    Args:
        root: the folder that holds `viper`.
        split_id: 0 to 19.
        loading: see `ReIDDataModule`.

    Raises:
        ValueError: if there is no such split.
    """

    name = "viper"
    folder = "viper"
    licence = "research use; no further terms of its authors are known"
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
        """List a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if a camera's folder is missing.
            ValueError: if a name does not parse or an image has no counterpart.
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
        """Read the identity from a file name, and the camera from its folder."""
        (pid,) = NAME.numbers(path)
        return Sample(str(path), pid, CAMERAS.index(path.parent.name))


def _check_pairs(first: list[Sample], second: list[Sample]) -> None:
    for a, b in zip_longest(first, second):
        if a is None or b is None:
            raise ValueError(
                f"{(a or b).path} has no counterpart: cam_a holds {len(first)} images and cam_b {len(second)}, and each "
                "image must be one of a pair. Unpack the archive again."
            )
        if a.pid != b.pid:
            raise ValueError(
                f"{a.path} and {b.path} stand at the same position of cam_a and cam_b but are of identities {a.pid} and "
                f"{b.pid}: one image of a pair is missing or misnamed. Unpack the archive again."
            )
