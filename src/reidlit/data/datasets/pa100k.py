"""PA-100K."""

from typing import Any, ClassVar

import numpy as np

from reidlit.data.attribute_data import ATTRIBUTE_SPLITS, AttributeDataModule, AttributeRow, AttributeTable
from reidlit.data.datamodule import Statistics
from reidlit.data.image_files import list_images
from reidlit.data.matlab import read_mat, strings


class PA100K(AttributeDataModule):
    """PA-100K: 100,000 pedestrians of 598 outdoor scenes with 26 attributes each.

    Source: Liu et al., "HydraPlus-Net: Attentive Deep Features for Pedestrian Analysis", ICCV 2017.
    Layout: `pa100k/data/*.jpg` and `pa100k/annotation/annotation.mat`, as Torchreid's project has it. A tracklet's images are
    in one split.

    Args:
        root: the folder that holds `pa100k`.
        loading: see `AttributeDataModule`.
    """

    name = "pa100k"
    folder = "pa100k"
    licence = "research use; no further terms of its authors are known"
    paper = "Liu et al., HydraPlus-Net: Attentive Deep Features for Pedestrian Analysis, ICCV 2017"
    how_to_obtain = (
        "Its authors give it at https://github.com/xh-liu/HydraPlus-Net: put the images into pa100k/data and annotation.mat "
        "into pa100k/annotation."
    )
    statistics: ClassVar[dict[Any, Statistics]] = {
        "train": Statistics(0, 80_000, None),
        "val": Statistics(0, 10_000, None),
        "test": Statistics(0, 10_000, None),
    }

    def table(self) -> AttributeTable:
        """List all images; see `AttributeDataModule.table`.

        Raises:
            FileNotFoundError: if the annotation or an image is missing.
            ValueError: if the annotation cannot be understood.
        """
        file = self.directory / "annotation" / "annotation.mat"
        parts = [(f"{split}_images_name", f"{split}_label") for split in ATTRIBUTE_SPLITS]
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist. {self.how_to_obtain}")
        content = read_mat(file, ["attributes", *(name for part in parts for name in part)])
        try:
            names = tuple(strings(content["attributes"]))
            rows = [
                AttributeRow(image, split, labels)
                for split, (images, table) in zip(ATTRIBUTE_SPLITS, parts, strict=True)
                for image, labels in zip(
                    strings(content[images]), _labels(content[table], len(names), table), strict=True
                )
            ]
        except ValueError as error:
            raise ValueError(f"{file} is not PA-100K's: {error}. Get it again from its authors.") from error
        return AttributeTable(names, self._placed(rows))

    def _placed(self, rows: list[AttributeRow]) -> list[AttributeRow]:
        """The rows with whole paths, sorted, if all images are there."""
        images = self.directory / "data"
        there = {path.name for path in list_images(images)}
        missing = [row.path for row in rows if row.path not in there]
        if missing:
            raise FileNotFoundError(
                f"{images}: {len(missing)} of {len(rows)} images are missing, {missing[0]!r} for one. {self.how_to_obtain}"
            )
        if len({row.path for row in rows}) < len(rows):
            raise ValueError(f"{self.directory}: an image is listed twice in annotation.mat. Get it again.")
        return sorted(row._replace(path=str(images / row.path)) for row in rows)


def _labels(values: Any, width: int, name: str) -> list[list[int]]:
    """Rows of 0 and 1."""
    labels = np.asarray(values)
    if labels.ndim != 2 or labels.shape[1] != width or labels.dtype.kind not in "biuf":
        raise ValueError(f"{name} is {labels.shape} of {labels.dtype}, but there are {width} attributes")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"{name} holds other values than 0 and 1")
    rows: list[list[int]] = labels.astype(np.int8).tolist()
    return rows
