"""CUHK01 dataset."""

from pathlib import Path
from typing import ClassVar, Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.sample import Sample
from reidlit.data.splits import check_split_id, drawn_order

NAME = FileName("CUHK01", "0001003.png", r"([0-9]{4})([0-9]{3})\.")
NUM_SPLITS = 20
IMAGES_PER_CAMERA = 2


class CUHK01(ReIDDataModule):
    """CUHK01, an image dataset of 971 identities on a campus, with two images from each of two cameras.

    Source: Li, Zhao and Wang, "Human Reidentification with Transferred Metric Learning", ACCV 2012.

    Protocol: results are averaged over random splits with 485 identities for training and 486 for testing. Splits 2k
    and 2k + 1 have the same identities. In an even split, images of the first camera are the queries and images of the
    second are the gallery; an odd split swaps them. A model trained on an even split can be tested on the next odd one.

    Layout: `cuhk01/campus`; `reidlit prepare data=cuhk01 archive=CUHK01.zip` creates it.

    File names: `0001003.png` is image 3 of identity 1. Images 1 and 2 are from one camera, 3 and 4 from the other.

    Args:
        root: Folder that contains `cuhk01`.
        split_id: Number of the split, 0 to 19.
        loading: Options of `ReIDDataModule`.

    Raises:
        ValueError: If `split_id` is out of range.
    """

    name = "cuhk01"
    folder = "cuhk01"
    licence = "academic use only, on request"
    paper = "Li et al., Human Reidentification with Transferred Metric Learning, ACCV 2012"
    how_to_obtain = (
        "Request CUHK01.zip from the authors at http://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html. Place its "
        "folder campus in cuhk01."
    )
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(485, 1_940, 2),
        "query": Statistics(486, 972, 1),
        "gallery": Statistics(486, 972, 1),
    }

    def __init__(self, root: str, split_id: int = 0, **loading: Unpack[Loading]) -> None:
        super().__init__(root, **loading)
        self.split_id = check_split_id(self.name, split_id, NUM_SPLITS)

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If the folder of the images is missing.
            ValueError: If a file name is invalid.
        """
        archive, campus = self.directory / "CUHK01.zip", self.directory / "campus"
        if archive.is_file() and not campus.is_dir():
            raise FileNotFoundError(
                f"{campus} does not exist, but {archive} does. Unpack the archive with `reidlit prepare data=cuhk01 "
                f"archive={archive}`."
            )
        images = [self.parse_name(path) for path in list_images(campus)]
        pids = sorted({sample.pid for sample in images})
        train = {pids[i] for i in drawn_order(len(pids), self.split_id // 2)[: len(pids) // 2]}
        if split == "train":
            return [sample for sample in images if sample.pid in train]
        camid = (self.split_id + (split == "gallery")) % 2
        return [sample for sample in images if sample.pid not in train and sample.camid == camid]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Return the sample of an image file, with the identity and camera from its name."""
        pid, image = NAME.numbers(path)
        if not 1 <= image <= 2 * IMAGES_PER_CAMERA:
            raise ValueError(
                f"{path}: image number {image} is out of range: must be 1 to {2 * IMAGES_PER_CAMERA}. Rename or remove "
                "it."
            )
        return Sample(str(path), pid, (image - 1) // IMAGES_PER_CAMERA)
