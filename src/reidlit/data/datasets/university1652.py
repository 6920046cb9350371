"""University-1652 dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_folders, list_images
from reidlit.data.sample import Sample

TEST_VIEWS = ("satellite", "drone", "street")
VIEWS = (*TEST_VIEWS, "google")  # the index is the camid
SYNONYMS = {"ground": "street"}  # name in the paper -> name of the folder
SIZES = {
    "query_satellite": Statistics(701, 701, 1),
    "query_drone": Statistics(701, 37_855, 1),
    "query_street": Statistics(701, 2_579, 1),
    "gallery_satellite": Statistics(951, 951, 1),
    "gallery_drone": Statistics(951, 51_355, 1),
    "gallery_street": Statistics(793, 2_921, 1),
}
NAME = FileName("University-1652", "0839/*.jpg", r"([0-9]{1,9})\Z")  # folder of a building


class University1652(ReIDDataModule):
    """University-1652, an image dataset of 1,652 university buildings seen from satellite, drone and street.

    Source: Zheng et al., "University-1652: A Multi-view Multi-source Benchmark for Drone-based Geo-localization",
    ACM Multimedia 2020.

    Protocol: 701 buildings for training and 951 for testing. The default, as in Torchreid, has 37,855 drone queries and
    951 satellite gallery images (drone-view target localization). The paper also evaluates satellite queries against
    drone images (drone navigation).

    Layout: `university1652/University-Release/train/<view>/<building>/*` and
    `university1652/University-Release/test/{query,gallery}_<view>/<building>/*`. Folders of buildings may be empty.

    The pid is the number of the building and the camid is the view: 0 satellite, 1 drone, 2 street (also called
    ground), 3 google, which contains noisy street views from an image search and is for training only. Query and
    gallery must have different views, because matches from the query's own camera are ignored.

    Args:
        root: Folder that contains `university1652`.
        train_views: Views to train on: `satellite`, `drone`, `street` or `google`.
        query: View of the queries: `satellite`, `drone` or `street`.
        gallery: View of the gallery: `satellite`, `drone` or `street`, but not the view of the queries.
        loading: Options of `ReIDDataModule`.

    Raises:
        ValueError: If a view is unknown, `train_views` is not a list of views, or query and gallery have the same view.
    """

    name = "university1652"
    folder = "university1652"
    licence = "research use only; no redistribution, no commercial use"
    paper = (
        "Zheng et al., University-1652: A Multi-view Multi-source Benchmark for Drone-based Geo-localization, "
        "ACM Multimedia 2020"
    )
    how_to_obtain = (
        "Request it from the authors at https://github.com/layumi/University1652-Baseline. Unpack it so that "
        "university1652 contains University-Release/train and University-Release/test."
    )
    archive = "University-Release"
    statistics: ClassVar[dict[Split, Statistics]] = {
        "query": SIZES["query_drone"],
        "gallery": SIZES["gallery_satellite"],
    }

    def __init__(
        self,
        root: str,
        train_views: Sequence[str] = VIEWS,
        query: str = "drone",
        gallery: str = "satellite",
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(root, **loading)
        if isinstance(train_views, str) or not train_views:
            raise ValueError(
                f"data.train_views={train_views} is invalid: must be a list of at least one of {', '.join(VIEWS)}."
            )
        views = [_folder_name("train_views", view, VIEWS) for view in train_views]
        self.train_views = sorted(set(views), key=VIEWS.index)
        self.query_view = _folder_name("query", query, TEST_VIEWS)
        self.gallery_view = _folder_name("gallery", gallery, TEST_VIEWS)
        if self.query_view == self.gallery_view:
            raise ValueError(
                f"data.query={query} and data.gallery={gallery} are the same view. Each view is a camera, and matches "
                f"from the query's own camera are ignored. Choose two different views of {', '.join(TEST_VIEWS)}."
            )

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: If the folder of a view is missing.
            ValueError: If the name of a building's folder is not a number.
        """
        base = self.directory / self.archive
        if split == "train":
            return [sample for view in self.train_views for sample in self._view_samples(base / "train" / view)]
        view = self.query_view if split == "query" else self.gallery_view
        return self._view_samples(base / "test" / f"{split}_{view}")

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Return the sample of an image file, with the building and the view from its folders."""
        (pid,) = NAME.numbers(path.parent)
        return Sample(str(path), pid, VIEWS.index(path.parts[-3].rpartition("_")[2]))

    def published(self) -> dict[Split, Statistics]:
        """Return the published sizes of the query and gallery views; those of single training views are unknown."""
        return {"query": SIZES[f"query_{self.query_view}"], "gallery": SIZES[f"gallery_{self.gallery_view}"]}

    def _view_samples(self, folder: Path) -> list[Sample]:
        return [self.parse_name(path) for building in list_folders(folder) for path in list_images(building)]


def _folder_name(option: str, view: str, choices: Sequence[str]) -> str:
    """Return the name of the folders of a view."""
    name = SYNONYMS.get(view, view)
    if name not in choices:
        raise ValueError(f"data.{option}: view {view!r} is invalid: must be one of {', '.join(choices)}.")
    return name
