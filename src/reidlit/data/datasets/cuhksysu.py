"""CUHK-SYSU dataset."""

from pathlib import Path
from typing import ClassVar

from reidlit.data.datamodule import ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.sample import Sample
from reidlit.labels import UNKNOWN

NAME = FileName("CUHK-SYSU", "p11422_s16929_1.jpg", r"p([0-9]{1,9})_s[0-9]{1,9}_")


class CUHKSYSU(ReIDDataModule):
    """CUHK-SYSU, 34,574 person crops of 11,934 identities from street photos and film stills, for training only.

    Source: Xiao et al., "Joint Detection and Identification Feature Learning for Person Search", CVPR 2017.

    Protocol: all images are for training. The scenes were taken with hand-held cameras or come from films, so cameras
    are unknown and camid is always -1. `val_fraction` and camera-aware samplers and losses cannot be used with this
    dataset alone.

    Layout: `cuhksysu/cropped_images`.

    File names: `p11422_s16929_1.jpg` is a crop of identity 11422 from scene 16929.

    Args:
        root: Folder that contains `cuhksysu`.
        loading: Options of `ReIDDataModule`.
    """

    name = "cuhksysu"
    folder = "cuhksysu"
    splits: ClassVar[tuple[Split, ...]] = ("train",)
    licence = "academic use only"
    paper = "Xiao et al., Joint Detection and Identification Feature Learning for Person Search, CVPR 2017"
    how_to_obtain = (
        "Request the scenes from the authors at https://github.com/ShuangLI59/person_search. Person crops of the "
        "scenes are linked at https://kaiyangzhou.github.io/deep-person-reid/datasets.html. Place the crops in "
        "cuhksysu/cropped_images."
    )
    archive = "cropped_images"
    statistics: ClassVar[dict[Split, Statistics]] = {"train": Statistics(11_934, 34_574, 0)}

    def samples(self, split: Split) -> list[Sample]:
        """List all images; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If the folder is missing.
            ValueError: If a file name is invalid.
        """
        del split  # always "train"
        return [self.parse_name(path) for path in list_images(self.directory / self.archive)]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Return the sample of an image file, with the identity from its name."""
        (pid,) = NAME.numbers(path)
        return Sample(str(path), pid, camid=UNKNOWN)
