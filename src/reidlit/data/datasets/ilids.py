"""QMUL-iLIDS."""

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
    """QMUL-iLIDS: 119 identities in 476 images from an airport's arrival hall, two to eight of each.

    Source: Zheng, Gong and Xiang, "Associating Groups of People", BMVC 2009.
    Layout: `ilids/i-LIDS_Pedestrian/Persons`.
    Names: `0001003.jpg` is image 3 of identity 1.

    The cameras do not overlap, but which of them took an image is not told. So `camid` is not a camera: it is the image's
    number within its identity, from 0. Thus no two images of an identity share one, none is ignored in evaluation as seen
    by the query's own camera, and identities may be held out for validation. Methods that learn from cameras learn
    nothing true here.

    The protocol is the mean over random splits: 59 identities to train with all their images; of each of the other 60, two
    images drawn at random, one as query and one as gallery.

    Args:
        root: the folder that holds `ilids`.
        split_id: 0 to 9.
        loading: see `ReIDDataModule`.

    Raises:
        ValueError: if there is no such split.
    """

    name = "ilids"
    folder = "ilids"
    statistics: ClassVar[dict[Split, Statistics]] = {
        "query": Statistics(60, 60, None),
        "gallery": Statistics(60, 60, None),
    }
    licence = "research use; the footage is that of the UK Home Office's i-LIDS"
    paper = "Zheng et al., Associating Groups of People, BMVC 2009"
    url = "https://www.eecs.qmul.ac.uk/~jason/data/i-LIDS_Pedestrian.tgz"

    def __init__(self, root: str, split_id: int = 0, **loading: Unpack[Loading]) -> None:
        super().__init__(root, **loading)
        self.split_id = check_split_id(self.name, split_id, NUM_SPLITS)

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if the images' folder is missing.
            ValueError: if a name does not parse or images are missing: the draw is among all of them.
        """
        folder = self.directory / "i-LIDS_Pedestrian" / "Persons"
        images = [self.parse_name(path) for path in list_images(folder)]
        people = sorted({sample.pid for sample in images})
        if (len(people), len(images)) != (NUM_PEOPLE, NUM_IMAGES):
            raise ValueError(
                f"{folder} holds {len(people)} identities in {len(images)} images; QMUL-iLIDS has {NUM_PEOPLE} in "
                f"{NUM_IMAGES}, and the splits are drawn among all of them. Unpack the archive again."
            )
        train = {people[i] for i in drawn_order(NUM_PEOPLE, self.split_id)[:NUM_TRAIN]}
        if split == "train":
            return [sample for sample in images if sample.pid in train]
        shuffled = [images[i] for i in drawn_order(NUM_IMAGES, NUM_SPLITS + self.split_id)]
        position = 0 if split == "query" else 1
        return [[s for s in shuffled if s.pid == pid][position] for pid in people if pid not in train]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Read the identity and the number of the image from a file name."""
        pid, image = NAME.numbers(path)
        return Sample(str(path), pid, image - 1)
