"""CUHK02."""

from pathlib import Path
from typing import ClassVar

from reidlit.data.datamodule import ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.sample import Sample

NAME = FileName("CUHK02", "012_3.png, a number below 10000 first", r"(0{0,5}[0-9]{1,4})_")
ROOM = 10_000  # identity numbers of a pair, which has fewer than 1,000 people
PLACES: dict[Split, list[tuple[int, int]]] = {  # (pair, camera) as the folders number them
    "train": [(pair, camera) for pair in (1, 2, 3, 4) for camera in (1, 2)],
    "query": [(5, 1)],
    "gallery": [(5, 2)],
}


class CUHK02(ReIDDataModule):
    """CUHK02: 1,816 identities at five places of a campus, each seen by its own pair of cameras.

    Source: Li and Wang, "Locally Aligned Feature Transforms across Views", CVPR 2013.
    Layout: `cuhk02/Dataset/P1` to `P5`, each with `cam1` and `cam2`; two images of a person in each camera. As in
    Torchreid, P1 to P4 are for training; P5 is for testing, its first camera the query and its second the gallery.
    Names: `012_3.png` is person 12 of the pair. Every pair numbers its people from the start, so person 12 of P3 is
    identity 30012 here; the cameras are 0 and 1 in P1, to 8 and 9 in P5.

    Args:
        root: the folder that holds `cuhk02`.
        loading: see `ReIDDataModule`.
    """

    name = "cuhk02"
    folder = "cuhk02"
    licence = "research use only; not to be redistributed"
    paper = "Li and Wang, Locally Aligned Feature Transforms across Views, CVPR 2013"
    how_to_obtain = (
        "Its authors give it on request at https://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html; unpack it so that "
        "Dataset/P1 to Dataset/P5 lie there."
    )
    usage_notice = "The people of P1 are those of CUHK01: do not test a model on cuhk01 that was trained on cuhk02."
    archive = "Dataset"
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(971 + 306 + 107 + 193, 6_308, 8),
        "query": Statistics(239, 478, 1),
        "gallery": Statistics(239, 478, 1),
    }

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if the folder of a camera is missing.
            ValueError: if a name does not parse or its number is too large.
        """
        base = self.directory / self.archive
        return [
            self.parse_name(path)
            for pair, camera in PLACES[split]
            for path in list_images(base / f"P{pair}" / f"cam{camera}")
        ]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Read the number of a person from a file name, and the pair and the camera from its folders."""
        (number,) = NAME.numbers(path)
        pair, camera = int(path.parts[-3].removeprefix("P")), int(path.parts[-2].removeprefix("cam"))
        return Sample(str(path), pid=pair * ROOM + number, camid=2 * (pair - 1) + camera - 1)
