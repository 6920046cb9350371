"""Market-1501."""

from pathlib import Path
from typing import ClassVar, Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.sample import Sample

NAME = FileName("Market-1501", "0002_c1s1_000451_03.jpg", r"(-?[0-9]{1,9})_c([0-9])(?![0-9])")
JUNK = -1  # detections that overlap a person only in part; the protocol ignores them
FOLDERS: dict[Split, str] = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


class Market1501(ReIDDataModule):
    """Market-1501: 1,501 identities, six cameras at a campus supermarket, boxes from a detector.

    Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.
    Layout: `market1501/Market-1501-v15.09.15/{bounding_box_train,query,bounding_box_test}`, or these three folders
    directly in `market1501`; the 500,000 distractors in `images` beside them.
    Names: `0002_c1s1_000451_03.jpg` is identity 2, camera 1. Identity 0000 is background and stays in the gallery as
    distractor; -1 is junk and is left out.

    Args:
        root: the folder that holds `market1501`.
        market1501_500k: whether the 500,000 distractors join the gallery.
        loading: see `ReIDDataModule`.
    """

    name = "market1501"
    folder = "market1501"
    junk_pids = (-1, 0)
    licence = "research use only; not to be redistributed"
    paper = "Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015"
    how_to_obtain = (
        "Its authors give it at https://zheng-lab-anu.github.io/Project/project_reid.html as Market-1501-v15.09.15.zip."
    )
    archive = "Market-1501-v15.09.15"
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(751, 12_936, 6),
        "query": Statistics(750, 3_368, 6),
        "gallery": Statistics(751, 15_913, 6),  # with the background identity 0000
    }

    def __init__(self, root: str, market1501_500k: bool = False, **loading: Unpack[Loading]) -> None:
        super().__init__(root, **loading)
        self.market1501_500k = market1501_500k

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if the split's folder or that of the distractors is missing.
            ValueError: if a name does not parse or lies outside the published ranges.
        """
        listed = [self.parse_name(path) for path in list_images(self._base / FOLDERS[split])]
        if split == "gallery" and self.market1501_500k:
            listed += [Sample(str(path), pid=0, camid=0) for path in list_images(self._base / "images")]
        return [sample for sample in listed if sample.pid != JUNK]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Read the identity and the camera from a file name."""
        pid, camera = NAME.numbers(path)
        if not (-1 <= pid <= 1501 and 1 <= camera <= 6):
            raise ValueError(f"{path}: identity {pid} and camera {camera} must lie in -1 to 1501 and 1 to 6.")
        return Sample(str(path), pid, camera - 1)

    @property
    def _base(self) -> Path:
        nested = self.directory / self.archive
        return nested if nested.is_dir() else self.directory
