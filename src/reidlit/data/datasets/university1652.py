"""University-1652."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Unpack

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics
from reidlit.data.datasets.file_names import FileName
from reidlit.data.image_files import list_folders, list_images
from reidlit.data.sample import Sample

TEST_VIEWS = ("satellite", "drone", "street")
VIEWS = (*TEST_VIEWS, "google")  # the position is the camid
SYNONYMS = {"ground": "street"}  # the paper says ground, the folders say street
SIZES = {
    "query_satellite": Statistics(701, 701, 1),
    "query_drone": Statistics(701, 37_855, 1),
    "query_street": Statistics(701, 2_579, 1),
    "gallery_satellite": Statistics(951, 951, 1),
    "gallery_drone": Statistics(951, 51_355, 1),
    "gallery_street": Statistics(793, 2_921, 1),
}
NAME = FileName("University-1652", "0839/*.jpg", r"([0-9]{1,9})\Z")  # of a building's folder


class University1652(ReIDDataModule):
    """University-1652: 1,652 university buildings from the satellite, from a simulated drone, and from the street.

    Source: Zheng et al., "University-1652: A Multi-view Multi-source Benchmark for Drone-based Geo-localization",
    ACM Multimedia 2020.
    Layout: `university1652/University-Release/train/<view>/<building>/*` and
    `university1652/University-Release/test/{query,gallery}_<view>/<building>/*`; some buildings' folders are empty.
    An identity is a building, by the number of its folder. A camera is a view: 0 satellite, 1 drone, 2 street (also called
    ground), 3 google, the noisy street views of an image search, which are for training only. So the views of query and
    gallery must differ, as they do in the paper's protocols: drone to satellite finds a place, satellite to drone
    navigates. Torchreid has the first of them.

    Args:
        root: the folder that holds `university1652`.
        train_views: the views to train on, of `satellite`, `drone`, `street` and `google`.
        query: the view of the queries: `satellite`, `drone` or `street`.
        gallery: the view of the gallery, likewise; another one.
        loading: see `ReIDDataModule`.

    Raises:
        ValueError: if a view is unknown, `train_views` is no list of views, or query and gallery have the same view.
    """

    name = "university1652"
    folder = "university1652"
    licence = "research use only; not to be given to others, no profit to be made from it"
    paper = (
        "Zheng et al., University-1652: A Multi-view Multi-source Benchmark for Drone-based Geo-localization, "
        "ACM Multimedia 2020"
    )
    how_to_obtain = (
        "Its authors give it on request at https://github.com/layumi/University1652-Baseline; unpack it so that "
        "University-Release/train and University-Release/test lie there."
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
            raise ValueError(f"data.train_views={train_views} must be a list of one or more of {', '.join(VIEWS)}.")
        views = [_known("train_views", view, VIEWS) for view in train_views]
        self.train_views = sorted(set(views), key=VIEWS.index)
        self.query_view = _known("query", query, TEST_VIEWS)
        self.gallery_view = _known("gallery", gallery, TEST_VIEWS)
        if self.query_view == self.gallery_view:
            raise ValueError(
                f"data.query={query} and data.gallery={gallery} are the same view. A view is a camera, and matches of the "
                "query's own camera do not count, so that no query would have one. Name two of "
                f"{', '.join(TEST_VIEWS)}."
            )

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`.

        Raises:
            FileNotFoundError: if the folder of a view is missing.
            ValueError: if the folder of a building is not named by a number.
        """
        base = self.directory / self.archive
        if split == "train":
            return [sample for view in self.train_views for sample in self._view(base / "train" / view)]
        view = self.query_view if split == "query" else self.gallery_view
        return self._view(base / "test" / f"{split}_{view}")

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Read the building from the name of the image's folder, and the view from the folder above."""
        (pid,) = NAME.numbers(path.parent)
        return Sample(str(path), pid, VIEWS.index(path.parts[-3].rpartition("_")[2]))

    def published(self) -> dict[Split, Statistics]:
        """The published sizes of the chosen views; those of the training views are not published one by one."""
        return {"query": SIZES[f"query_{self.query_view}"], "gallery": SIZES[f"gallery_{self.gallery_view}"]}

    def _view(self, folder: Path) -> list[Sample]:
        return [self.parse_name(path) for building in list_folders(folder) for path in list_images(building)]


def _known(option: str, view: str, known: Sequence[str]) -> str:
    """The name of the view's folders."""
    named = SYNONYMS.get(view, view)
    if named not in known:
        raise ValueError(f"data.{option}: {view!r} is no view to choose here; there are {', '.join(known)}.")
    return named
