"""CUHK01."""

from pathlib import Path
from typing import ClassVar, Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.sample import Sample
from reidlit.data.splits import check_split_id, drawn_order

NAME = FileName("CUHK01", "0001003.png", r"([0-9]{4})([0-9]{3})\.")
NUM_SPLITS = 20
IMAGES_OF_A_CAMERA = 2


class CUHK01(ReIDDataModule):
    """CUHK01: 971 identities on a campus, two images from each of two cameras.

    Source: Li, Zhao and Wang, "Human Reidentification with Transferred Metric Learning", ACCV 2012.
    Layout: `cuhk01/campus`, which is also where `reidlit prepare data=cuhk01 archive=CUHK01.zip` puts the images.
    Names: `0001003.png` is image 3 of identity 1. Images 1 and 2 are of one camera, 3 and 4 of the other.

    The protocol is the mean over random halvings, 485 identities to train and 486 to test, each with both cameras as
    query: splits 2k and 2k + 1 share their identities, drawn among those that are there; an even split searches the second
    camera for the people of the first, an odd one the other way round. A model that was trained on an even split may be
    tested on the odd one after it.

    Args:
        root: the folder that holds `cuhk01`.
        split_id: 0 to 19.
        loading: see `ReIDDataModule`.

    Raises:
        ValueError: if there is no such split.
    """

    name = "cuhk01"
    folder = "cuhk01"
    licence = "academic use only; to be asked for"
    paper = "Li et al., Human Reidentification with Transferred Metric Learning, ACCV 2012"
    how_to_obtain = (
        "Its authors give it on request at http://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html as CUHK01.zip; "
        "put its folder campus into the dataset's folder."
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
        """List a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if the images' folder is missing.
            ValueError: if a name does not parse.
        """
        archive, campus = self.directory / "CUHK01.zip", self.directory / "campus"
        if archive.is_file() and not campus.is_dir():
            raise FileNotFoundError(
                f"{campus} does not exist, but {archive} does. Unpack it with `reidlit prepare data=cuhk01 "
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
        """Read the identity and the camera from a file name."""
        pid, image = NAME.numbers(path)
        if not 1 <= image <= 2 * IMAGES_OF_A_CAMERA:
            raise ValueError(f"{path}: image {image} of an identity must lie in 1 to {2 * IMAGES_OF_A_CAMERA}.")
        return Sample(str(path), pid, (image - 1) // IMAGES_OF_A_CAMERA)
