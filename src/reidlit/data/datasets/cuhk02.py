"""CUHK02 dataset."""

from pathlib import Path
from typing import ClassVar

from reidlit.data.datamodule import ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.sample import Sample

NAME = FileName("CUHK02", "012_3.png, which starts with a number below 10000", r"(0{0,5}[0-9]{1,4})_")
PIDS_PER_PAIR = 10_000  # more than the people of any camera pair
CAMERAS: dict[Split, list[tuple[int, int]]] = {  # (pair, camera), numbered as the folders
    "train": [(pair, camera) for pair in (1, 2, 3, 4) for camera in (1, 2)],
    "query": [(5, 1)],
    "gallery": [(5, 2)],
}


class CUHK02(ReIDDataModule):
    """CUHK02, an image dataset of 1,816 identities at five places of a campus, each covered by its own camera pair.

    Source: Li and Wang, "Locally Aligned Feature Transforms across Views", CVPR 2013.

    Protocol: as in Torchreid, the pairs P1 to P4 (1,577 identities, 6,308 images) are for training. P5 (239 identities)
    is for testing, with 478 images of its first camera as queries and 478 of its second camera as gallery.

    Layout: `cuhk02/Dataset/P1` to `P5`, each with the folders `cam1` and `cam2`, which contain two images per person.

    File names: `012_3.png` is an image of person 12 of its pair. Numbers are not unique across pairs, so person 12 of
    P3 becomes pid 30012. Camids are 0 and 1 in P1, up to 8 and 9 in P5.

    Args:
        root: Folder that contains `cuhk02`.
        loading: Options of `ReIDDataModule`.
    """

    name = "cuhk02"
    folder = "cuhk02"
    licence = "research use only; not to be redistributed"
    paper = "Li and Wang, Locally Aligned Feature Transforms across Views, CVPR 2013"
    how_to_obtain = (
        "Request it from the authors at https://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html. Unpack it so that "
        "cuhk02 contains Dataset/P1 to Dataset/P5."
    )
    usage_notice = "P1 contains the people of CUHK01. Do not test a model that was trained on cuhk02 on cuhk01."
    archive = "Dataset"
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(971 + 306 + 107 + 193, 6_308, 8),
        "query": Statistics(239, 478, 1),
        "gallery": Statistics(239, 478, 1),
    }

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If the folder of a camera is missing.
            ValueError: If a file name is invalid or its number is too large.
        """
        base = self.directory / self.archive
        return [
            self.parse_name(path)
            for pair, camera in CAMERAS[split]
            for path in list_images(base / f"P{pair}" / f"cam{camera}")
        ]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Return the sample of an image file, with the person from its name and the camera from its folders."""
        (number,) = NAME.numbers(path)
        pair, camera = int(path.parts[-3].removeprefix("P")), int(path.parts[-2].removeprefix("cam"))
        return Sample(str(path), pid=pair * PIDS_PER_PAIR + number, camid=2 * (pair - 1) + camera - 1)
