"""PRID 2011, single shot."""

from pathlib import Path
from typing import ClassVar, Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.sample import Sample
from reidlit.data.splits import check_split_id, drawn_order

NAME = FileName("PRID", "person_0001.png to person_0749.png", r"person_(?!0000)(0[0-7][0-9]{2})\.")
NUM_SPLITS = 10
NUM_SHARED = 200  # the people that both cameras saw
NUM_TRAIN = 100
LAST = 749
CAMERAS = ("cam_a", "cam_b")


class PRID(ReIDDataModule):
    """PRID 2011, its single-shot version: one image of a person from each of two street cameras.

    Source: Hirzer, Beleznai, Roth and Bischof, "Person Re-identification by Descriptive and Discriminative
    Classification", SCIA 2011.
    Layout: `prid2011/prid_2011/single_shot/{cam_a,cam_b}`.
    Names: `person_0001.png`. Persons 1 to 200 were seen by both cameras. Persons 201 to 385 of camera A and 201 to 749 of
    camera B are different people in spite of their numbers; those of A have no part in the protocol, those of B are
    distractors in the gallery.

    The protocol is the mean over random splits: 100 of the 200 to train; the others are searched for from camera A among
    them and the distractors of camera B.

    Args:
        root: the folder that holds `prid2011`.
        split_id: 0 to 9.
        loading: see `ReIDDataModule`.

    Raises:
        ValueError: if there is no such split.
    """

    name = "prid"
    folder = "prid2011"
    junk_pids = range(NUM_SHARED + 1, LAST + 1)
    licence = "research use; no further terms of its authors are known"
    paper = (
        "Hirzer et al., Person Re-identification by Descriptive and Discriminative Classification, SCIA 2011 "
        "(single shot)"
    )
    how_to_obtain = (
        "Its authors give it at https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/prid11/ as "
        "prid_2011.zip."
    )
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(100, 200, 2),
        "query": Statistics(100, 100, 1),
        "gallery": Statistics(649, 649, 1),
    }

    def __init__(self, root: str, split_id: int = 0, **loading: Unpack[Loading]) -> None:
        super().__init__(root, **loading)
        self.split_id = check_split_id(self.name, split_id, NUM_SPLITS)

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if a camera's folder is missing.
            ValueError: if a name does not parse.
        """
        folder = self.directory / "prid_2011" / "single_shot"
        view_a, view_b = ([self.parse_name(path) for path in list_images(folder / camera)] for camera in CAMERAS)
        shared = [i + 1 for i in drawn_order(NUM_SHARED, self.split_id)]
        train, test = set(shared[:NUM_TRAIN]), set(shared[NUM_TRAIN:])
        if split == "train":
            return [sample for sample in view_a + view_b if sample.pid in train]
        if split == "query":
            return [sample for sample in view_a if sample.pid in test]
        return [sample for sample in view_b if sample.pid not in train]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Read the person from a file name, and the camera from its folder."""
        (pid,) = NAME.numbers(path)
        if pid > LAST:
            raise NAME.mismatch(path)
        return Sample(str(path), pid, CAMERAS.index(path.parent.name))
