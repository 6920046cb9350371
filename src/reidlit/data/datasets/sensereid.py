"""SenseReID dataset."""

from pathlib import Path
from typing import ClassVar

from reidlit.data.datamodule import ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.sample import Sample

NAME = FileName("SenseReID", "00012_1.jpg", r"([0-9]{1,9})_([0-9]{1,9})(?![0-9])")
FOLDERS: dict[Split, str] = {"query": "test_probe", "gallery": "test_gallery"}


class SenseReID(ReIDDataModule):
    """SenseReID, an image dataset of 1,717 identities from surveillance cameras, for testing only.

    Source: Zhao et al., "Spindle Net: Person Re-identification with Human Body Region Guided Feature Decomposition and
    Fusion", CVPR 2017.

    Protocol: 1,040 queries of 522 identities and 3,388 gallery images of 1,717 identities. Queries with an identity
    that is missing from the gallery have no match and are excluded from the scores.

    Layout: `sensereid/SenseReID/{test_probe,test_gallery}`.

    File names: `00012_1.jpg` is an image of identity 12 from camera 1. Numbers are consistent between the folders. The
    number of cameras is not published.

    Args:
        root: Folder that contains `sensereid`.
        loading: Options of `ReIDDataModule`.
    """

    name = "sensereid"
    folder = "sensereid"
    splits: ClassVar[tuple[Split, ...]] = ("query", "gallery")
    licence = "research use only"
    paper = (
        "Zhao et al., Spindle Net: Person Re-identification with Human Body Region Guided Feature Decomposition and "
        "Fusion, CVPR 2017"
    )
    how_to_obtain = (
        "Download SenseReID.zip from https://drive.google.com/file/d/0B56OfSrVI8hubVJLTzkwV2VaOWM/view. Unpack it so "
        "that sensereid contains SenseReID/test_probe and SenseReID/test_gallery."
    )
    archive = "SenseReID"
    statistics: ClassVar[dict[Split, Statistics]] = {
        "query": Statistics(522, 1_040, None),
        "gallery": Statistics(1_717, 3_388, None),
    }

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If the folder of the split is missing.
            ValueError: If a file name is invalid.
        """
        return [self.parse_name(path) for path in list_images(self.directory / self.archive / FOLDERS[split])]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Return the sample of an image file, with the identity and camera from its name."""
        pid, camera = NAME.numbers(path)
        return Sample(str(path), pid, camera)
