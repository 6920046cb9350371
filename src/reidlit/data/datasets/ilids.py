"""QMUL-iLIDS dataset."""

from pathlib import Path
from typing import ClassVar, Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.sample import Sample
from reidlit.data.splits import check_split_id, drawn_order

NAME = FileName("QMUL-iLIDS", "0001003.jpg", r"([0-9]{4})(?!000)([0-9]{3})\.")
NUM_SPLITS = 10
NUM_PEOPLE = 119
NUM_TRAIN = 59
NUM_IMAGES = 476


class ILIDS(ReIDDataModule):
    """QMUL-iLIDS, 476 images of 119 identities from non-overlapping cameras in the arrival hall of an airport.

    Source: Zheng, Gong and Xiang, "Associating Groups of People", BMVC 2009.

    Protocol: results are averaged over random splits with all images of 59 identities for training. Each of the other
    60 identities contributes two random images to the test, one query and one gallery image.

    The camera of an image is unknown, so `camid` is the number of the image within its identity, from 0. Images of an
    identity therefore never share a camid, none is ignored in evaluation, and identities can be held out for
    validation. Do not use camera-aware methods with this dataset.

    Layout: `ilids/i-LIDS_Pedestrian/Persons`.

    File names: `0001003.jpg` is image 3 of identity 1; an identity has two to eight images.

    Args:
        root: Folder that contains `ilids`.
        split_id: Number of the split, 0 to 9.
        loading: Options of `ReIDDataModule`.

    Raises:
        ValueError: If `split_id` is out of range.
    """

    name = "ilids"
    folder = "ilids"
    statistics: ClassVar[dict[Split, Statistics]] = {
        "query": Statistics(60, 60, None),
        "gallery": Statistics(60, 60, None),
    }
    licence = "research use; based on i-LIDS footage of the UK Home Office"
    paper = "Zheng et al., Associating Groups of People, BMVC 2009"
    url = "https://www.eecs.qmul.ac.uk/~jason/data/i-LIDS_Pedestrian.tgz"

    def __init__(self, root: str, split_id: int = 0, **loading: Unpack[Loading]) -> None:
        super().__init__(root, **loading)
        self.split_id = check_split_id(self.name, split_id, NUM_SPLITS)

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If the folder of the images is missing.
            ValueError: If a file name is invalid or images are missing, because splits are drawn from all images.
        """
        folder = self.directory / "i-LIDS_Pedestrian" / "Persons"
        images = [self.parse_name(path) for path in list_images(folder)]
        people = sorted({sample.pid for sample in images})
        if (len(people), len(images)) != (NUM_PEOPLE, NUM_IMAGES):
            raise ValueError(
                f"{folder} contains {len(images)} images of {len(people)} identities, but QMUL-iLIDS has {NUM_IMAGES} "
                f"images of {NUM_PEOPLE} identities. Unpack the archive again."
            )
        train = {people[i] for i in drawn_order(NUM_PEOPLE, self.split_id)[:NUM_TRAIN]}
        if split == "train":
            return [sample for sample in images if sample.pid in train]
        shuffled = [images[i] for i in drawn_order(NUM_IMAGES, NUM_SPLITS + self.split_id)]
        position = 0 if split == "query" else 1
        return [[s for s in shuffled if s.pid == pid][position] for pid in people if pid not in train]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Return the sample of an image file, with the identity and image number from its name."""
        pid, image = NAME.numbers(path)
        return Sample(str(path), pid, image - 1)
