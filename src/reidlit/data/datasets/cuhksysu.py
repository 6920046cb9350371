"""CUHK-SYSU."""

from pathlib import Path
from typing import ClassVar

from reidlit.data.datamodule import ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.sample import Sample
from reidlit.labels import UNKNOWN

NAME = FileName("CUHK-SYSU", "p11422_s16929_1.jpg", r"p([0-9]{1,9})_s[0-9]{1,9}_")


class CUHKSYSU(ReIDDataModule):
    """CUHK-SYSU: 11,934 identities, cut out of street snaps and film stills, for training only.

    Source: Xiao et al., "Joint Detection and Identification Feature Learning for Person Search", CVPR 2017.
    Layout: `cuhksysu/cropped_images`.
    Names: `p11422_s16929_1.jpg` is identity 11422, cut out of scene 16929. Scenes were taken with hand-held cameras and
    come from films, so no camera is known: camid is -1 throughout. What needs cameras (`val_fraction`, samplers and
    losses that are aware of them) cannot use this dataset alone.

    Args:
        root: the folder that holds `cuhksysu`.
        loading: see `ReIDDataModule`.
    """

    name = "cuhksysu"
    folder = "cuhksysu"
    splits: ClassVar[tuple[Split, ...]] = ("train",)
    licence = "academic use only"
    paper = "Xiao et al., Joint Detection and Identification Feature Learning for Person Search, CVPR 2017"
    how_to_obtain = (
        "Its authors give the scenes on request at https://github.com/ShuangLI59/person_search; the people cut out of them "
        "are linked at https://kaiyangzhou.github.io/deep-person-reid/datasets.html. Put those into cropped_images."
    )
    archive = "cropped_images"
    statistics: ClassVar[dict[Split, Statistics]] = {"train": Statistics(11_934, 34_574, 0)}

    def samples(self, split: Split) -> list[Sample]:
        """List the images; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if the folder is missing.
            ValueError: if a name does not parse.
        """
        del split  # there is but one
        return [self.parse_name(path) for path in list_images(self.directory / self.archive)]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Read the identity from a file name."""
        (pid,) = NAME.numbers(path)
        return Sample(str(path), pid, camid=UNKNOWN)
