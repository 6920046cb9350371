"""PRID 2011 dataset, single-shot version."""

from pathlib import Path
from typing import ClassVar, Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.sample import Sample
from reidlit.data.splits import check_split_id, drawn_order

NAME = FileName("PRID", "person_0001.png to person_0749.png", r"person_(?!0000)(0[0-7][0-9]{2})\.")
NUM_SPLITS = 10
NUM_SHARED = 200  # people seen by both cameras
NUM_TRAIN = 100
LAST = 749
CAMERAS = ("cam_a", "cam_b")


class PRID(ReIDDataModule):
    """PRID 2011, single-shot version: one image of each person per camera, from two street cameras.

    Source: Hirzer, Beleznai, Roth and Bischof, "Person Re-identification by Descriptive and Discriminative
    Classification", SCIA 2011.

    Protocol: results are averaged over random splits of the 200 people that both cameras saw, with 100 for training and
    100 for testing. Images of camera A are the queries. The gallery contains images of camera B, including 549
    distractors.

    Layout: `prid2011/prid_2011/single_shot/{cam_a,cam_b}`.

    File names: `person_0001.png`. Both cameras saw persons 1 to 200. Higher numbers denote different people in the two
    cameras: persons 201 to 385 of camera A are not used, and persons 201 to 749 of camera B are distractors.

    Args:
        root: Folder that contains `prid2011`.
        split_id: Number of the split, 0 to 9.
        loading: Options of `ReIDDataModule`.

    Raises:
        ValueError: If `split_id` is out of range.
    """

    name = "prid"
    folder = "prid2011"
    junk_pids = range(NUM_SHARED + 1, LAST + 1)
    licence = "research use; no other terms are known"
    paper = (
        "Hirzer et al., Person Re-identification by Descriptive and Discriminative Classification, SCIA 2011 "
        "(single shot)"
    )
    how_to_obtain = (
        "Download prid_2011.zip from https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/prid11/."
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
        """List the samples of a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If the folder of a camera is missing.
            ValueError: If a file name is invalid.
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
        """Return the sample of an image file, with the person from its name and the camera from its folder."""
        (pid,) = NAME.numbers(path)
        if pid > LAST:
            raise NAME.mismatch(path)
        return Sample(str(path), pid, CAMERAS.index(path.parent.name))
