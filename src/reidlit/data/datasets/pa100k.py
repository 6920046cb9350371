"""PA-100K dataset."""

from typing import Any, ClassVar

import numpy as np

from reidlit.data.attribute_data import ATTRIBUTE_SPLITS, AttributeDataModule, AttributeRow, AttributeTable
from reidlit.data.datamodule import Statistics
from reidlit.data.image_files import list_images
from reidlit.data.matlab import read_mat, strings


class PA100K(AttributeDataModule):
    """PA-100K, an attribute dataset of 100,000 pedestrian images from 598 outdoor scenes with 26 attributes each.

    Source: Liu et al., "HydraPlus-Net: Attentive Deep Features for Pedestrian Analysis", ICCV 2017.

    Protocol: 80,000 images for training, 10,000 for validation and 10,000 for testing. All images of a tracklet are in
    the same split.

    Layout: `pa100k/data/*.jpg` and `pa100k/annotation/annotation.mat`, as in Torchreid.

    Args:
        root: Folder that contains `pa100k`.
        loading: Options of `AttributeDataModule`.
    """

    name = "pa100k"
    folder = "pa100k"
    licence = "research use; no other terms are known"
    paper = "Liu et al., HydraPlus-Net: Attentive Deep Features for Pedestrian Analysis, ICCV 2017"
    how_to_obtain = (
        "Download it from https://github.com/xh-liu/HydraPlus-Net. Place the images in pa100k/data and annotation.mat "
        "in pa100k/annotation."
    )
    statistics: ClassVar[dict[Any, Statistics]] = {
        "train": Statistics(0, 80_000, None),
        "val": Statistics(0, 10_000, None),
        "test": Statistics(0, 10_000, None),
    }

    def table(self) -> AttributeTable:
        """List all images; see `AttributeDataModule.table`.

        Raises:
            FileNotFoundError: If the annotation or an image is missing.
            ValueError: If the annotation is invalid.
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
            raise ValueError(
                f"{file} is not a valid PA-100K annotation: {error}. Download it again from its authors."
            ) from error
        return AttributeTable(names, self._with_full_paths(rows))

    def _with_full_paths(self, rows: list[AttributeRow]) -> list[AttributeRow]:
        """Return the rows with full paths, sorted, after checking that all images exist."""
        images = self.directory / "data"
        existing = {path.name for path in list_images(images)}
        missing = [row.path for row in rows if row.path not in existing]
        if missing:
            raise FileNotFoundError(
                f"{images}: {len(missing)} of {len(rows)} images are missing, such as {missing[0]!r}. "
                f"{self.how_to_obtain}"
            )
        if len({row.path for row in rows}) < len(rows):
            raise ValueError(
                f"{self.directory}: annotation.mat lists an image twice. Download it again from its authors."
            )
        return sorted(row._replace(path=str(images / row.path)) for row in rows)


def _labels(values: Any, width: int, name: str) -> list[list[int]]:
    """Return label rows after checking their shape and values."""
    labels = np.asarray(values)
    if labels.ndim != 2 or labels.shape[1] != width or labels.dtype.kind not in "biuf":
        raise ValueError(f"{name} has shape {labels.shape} and type {labels.dtype}, but there are {width} attributes")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"{name} contains values other than 0 and 1")
    rows: list[list[int]] = labels.astype(np.int8).tolist()
    return rows
