"""SenseReID."""

from pathlib import Path
from typing import ClassVar

from reidlit.data.datamodule import ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.sample import Sample

NAME = FileName("SenseReID", "00012_1.jpg", r"([0-9]{1,9})_([0-9]{1,9})(?![0-9])")
FOLDERS: dict[Split, str] = {"query": "test_probe", "gallery": "test_gallery"}


class SenseReID(ReIDDataModule):
    """SenseReID: 1,717 identities of surveillance cameras, for testing only.

    Source: Zhao et al., "Spindle Net: Person Re-identification with Human Body Region Guided Feature Decomposition and
    Fusion", CVPR 2017.
    Layout: `sensereid/SenseReID/{test_probe,test_gallery}`; how many cameras there are is not
    published.
    Names: `00012_1.jpg` is identity 12, camera 1. The numbers are kept as they are; an identity has the same one in both
    folders. A query whose identity is not in the gallery is counted by the evaluation as one without a match.

    Args:
        root: the folder that holds `sensereid`.
        loading: see `ReIDDataModule`.
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
        "Its authors give it as SenseReID.zip (https://drive.google.com/file/d/0B56OfSrVI8hubVJLTzkwV2VaOWM/view); "
        "unpack it so that SenseReID/test_probe and SenseReID/test_gallery lie there."
    )
    archive = "SenseReID"
    statistics: ClassVar[dict[Split, Statistics]] = {
        "query": Statistics(522, 1_040, None),
        "gallery": Statistics(1_717, 3_388, None),
    }

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if the split's folder is missing.
            ValueError: if a name does not parse.
        """
        return [self.parse_name(path) for path in list_images(self.directory / self.archive / FOLDERS[split])]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Read the identity and the camera from a file name."""
        pid, camera = NAME.numbers(path)
        return Sample(str(path), pid, camera)
