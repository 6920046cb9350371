"""Market-1501 dataset."""

from pathlib import Path
from typing import ClassVar, Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_images
from reidlit.data.sample import Sample

NAME = FileName("Market-1501", "0002_c1s1_000451_03.jpg", r"(-?[0-9]{1,9})_c([0-9])(?![0-9])")
JUNK = -1  # detections that overlap a person only partially; ignored by the protocol
FOLDERS: dict[Split, str] = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


class Market1501(ReIDDataModule):
    """Market-1501, an image dataset of 1,501 identities from six cameras at a campus supermarket, with detected boxes.

    Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.

    Protocol: 751 identities (12,936 images) for training and 750 for testing, with 3,368 queries and 15,913 gallery
    images. Identity 0 is background and stays in the gallery as a distractor; -1 is junk and is skipped.

    Layout: `market1501/Market-1501-v15.09.15/{bounding_box_train,query,bounding_box_test}`, or these three folders
    directly in `market1501`. The 500,000 distractors are in a folder `images` next to them.

    File names: `0002_c1s1_000451_03.jpg` is an image of identity 2 from camera 1.

    Args:
        root: Folder that contains `market1501`.
        market1501_500k: Whether to add the 500,000 distractors to the gallery.
        loading: Options of `ReIDDataModule`.
    """

    name = "market1501"
    folder = "market1501"
    junk_pids = (-1, 0)
    licence = "research use only; not to be redistributed"
    paper = "Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015"
    how_to_obtain = "Download Market-1501-v15.09.15.zip from https://zheng-lab-anu.github.io/Project/project_reid.html."
    archive = "Market-1501-v15.09.15"
    statistics: ClassVar[dict[Split, Statistics]] = {
        "train": Statistics(751, 12_936, 6),
        "query": Statistics(750, 3_368, 6),
        "gallery": Statistics(751, 15_913, 6),  # including background, identity 0
    }

    def __init__(self, root: str, market1501_500k: bool = False, **loading: Unpack[Loading]) -> None:
        super().__init__(root, **loading)
        self.market1501_500k = market1501_500k

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If the folder of the split or of the distractors is missing.
            ValueError: If a file name is invalid or contains a number out of range.
        """
        listed = [self.parse_name(path) for path in list_images(self._base / FOLDERS[split])]
        if split == "gallery" and self.market1501_500k:
            listed += [Sample(str(path), pid=0, camid=0) for path in list_images(self._base / "images")]
        return [sample for sample in listed if sample.pid != JUNK]

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Return the sample of an image file, with the identity and camera from its name."""
        pid, camera = NAME.numbers(path)
        if not (-1 <= pid <= 1501 and 1 <= camera <= 6):
            raise ValueError(
                f"{path}: identity {pid} or camera {camera} is out of range: must be -1 to 1501 and 1 to 6. "
                "Rename or remove the file."
            )
        return Sample(str(path), pid, camera - 1)

    @property
    def _base(self) -> Path:
        nested = self.directory / self.archive
        return nested if nested.is_dir() else self.directory
