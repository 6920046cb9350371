"""Base class of attribute datasets, whose images are labeled with attributes instead of identities."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, Unpack, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidlit.data.datamodule import Loading, ReIDDataModule, Statistics
from reidlit.data.decode import decode
from reidlit.data.images import Images, ImagesOptions, Item, Read, Transform
from reidlit.data.sample import Batch, Sample
from reidlit.data.splits import EvalSet
from reidlit.labels import UNKNOWN

Labels = NDArray[np.int8]
AttributeSplit = Literal["train", "val", "test"]
ATTRIBUTE_SPLITS: tuple[AttributeSplit, ...] = ("train", "val", "test")


class AttributeRow(NamedTuple):
    """Path of an image, its split, and its label for each attribute: 1 for yes, 0 for no, -1 for unknown."""

    path: str
    split: str
    labels: Sequence[int]


class AttributeTable(NamedTuple):
    """Attribute names and the rows of all images."""

    names: tuple[str, ...]
    rows: Sequence[AttributeRow]


class AttributeBatch(Batch):
    """Collated batch with attribute labels; unknown identities and cameras are -1."""

    attributes: Tensor  # (B, A) int8; 1 for yes, 0 for no, -1 for unknown


class AttributeImages(Images):
    """Dataset of images whose batches contain attribute labels.

    Args:
        samples: Samples to load; see `Images` for this and the other arguments not described here.
        transform: See `Images`.
        attributes: (N, A) int8 attribute labels of the samples.
        labels: See `Images`.
        num_queries: See `Images`.
        seed: See `Images`.
        views: See `Images`.
        read: See `Images`.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: Transform,
        attributes: Labels,
        labels: dict[int, int] | None = None,
        num_queries: int = 0,
        seed: int = 0,
        views: int = 1,
        read: Read = decode,
    ) -> None:
        super().__init__(samples, transform, labels, num_queries, seed, views, read)
        self.attributes = torch.from_numpy(attributes)

    def collate(self, items: Sequence[Item]) -> AttributeBatch:  # type: ignore[override]  # reads attributes
        """Collate items and their attribute labels; see `Images.collate`."""
        return AttributeBatch(**Images.collate(items), attributes=self.attributes[[item.index for item in items]])


class AttributeDataModule(ReIDDataModule):
    """Data module of one attribute dataset.

    A subclass implements `table` and declares the attributes that describe the dataset. The splits are `train`, `val`
    and `test`; the test split is never used for model selection.

    Args:
        root: Folder that contains the folders of the datasets.
        loading: Options of `ReIDDataModule`. `combineall` is not supported, and `val_fraction` must be 0 if the dataset
            has a validation split.

    Attributes:
        names: Attribute names, in the order of the label columns. A trained model can set its own names; attributes
            that the dataset lacks get unknown labels.

    Raises:
        ValueError: If an option is out of range or not supported.
    """

    splits: ClassVar[tuple[Any, ...]] = ATTRIBUTE_SPLITS
    brings_val: ClassVar[bool] = True
    labels_identities: ClassVar[bool] = False

    def __init__(self, root: str, **loading: Unpack[Loading]) -> None:
        super().__init__(root, **loading)
        if loading["combineall"]:
            raise ValueError("data.combineall=true is not supported: it would train on the test images. Remove it.")
        if self.brings_val and loading["val_fraction"]:
            raise ValueError(
                f"data.val_fraction={loading['val_fraction']} is invalid: data={self.name} has a validation split. "
                "Remove it."
            )
        self._chosen: tuple[str, ...] | None = None

    def table(self) -> AttributeTable:
        """List all images with their attribute labels, without decoding images; paths are unique.

        Raises:
            FileNotFoundError: If the dataset does not exist.
            ValueError: If the annotation is invalid.
        """
        raise NotImplementedError

    @property
    def names(self) -> tuple[str, ...]:
        """Attribute names, in the order of the label columns."""
        return self._table.names if self._chosen is None else self._chosen

    @names.setter
    def names(self, names: Sequence[str]) -> None:
        if not set(names) & set(self._table.names):
            raise ValueError(
                f"data={self.name} does not contain the attributes {', '.join(names)}. "
                f"Its attributes are {', '.join(self._table.names)}."
            )
        self._chosen = tuple(names)

    @property
    def missing(self) -> list[str]:
        """Names in `names` that the dataset lacks."""
        return [name for name in self.names if name not in self._table.names]

    @property
    def ratios(self) -> list[float]:
        """Fraction of positive labels per attribute among the known labels of the training split.

        Raises:
            ValueError: If an attribute has no known label.
        """
        labels = self.labels_of(self.training_samples())
        known = (labels >= 0).sum(0)
        if unknown := [name for name, count in zip(self.names, known, strict=True) if not count]:
            raise ValueError(
                f"data={self.name}: all training labels of {', '.join(unknown)} are unknown. Remove these attributes."
            )
        ratios: list[float] = ((labels > 0).sum(0) / known).tolist()
        return ratios

    def labels_of(self, samples: Iterable[Sample]) -> Labels:
        """Return the (N, A) int8 labels of samples, with columns in the order of `names`."""
        table = np.array([self._labels[str(sample.path)] for sample in samples], np.int8)
        columns = {name: column for column, name in enumerate(self._table.names)}
        labels = np.full((len(table), len(self.names)), UNKNOWN, np.int8)
        for column, name in enumerate(self.names):
            if name in columns:
                labels[:, column] = table[:, columns[name]]
        return labels

    def samples(self, split: str) -> list[Sample]:
        """List the samples of a split; see `table`."""
        return [Sample(row.path, UNKNOWN, UNKNOWN) for row in self._table.rows if row.split == split]

    def setup(self, stage: str) -> None:
        """List the splits that a stage needs; see `ReIDDataModule.setup`."""
        self.read = self.reader()
        if stage == "fit" and not self.train:
            self.train = self.training_samples()
            self.labels = {UNKNOWN: 0}
            val = self.samples("val")
            self.val = EvalSet([], val) if val else None
        if stage == "test" and not self.test_sets:
            self.test_sets = self.eval_sets()

    def training_samples(self) -> list[Sample]:
        """List the samples of the training split."""
        return self.listed("train")

    def eval_sets(self) -> dict[str, EvalSet]:
        """Return the test split, if there is one, as a gallery without queries."""
        test = self.samples("test")
        return {self.name: EvalSet([], test)} if test else {}

    def verify(self) -> list[tuple[str, Statistics, Statistics | None]]:
        """Return the size of each split; see `ReIDDataModule.verify`."""
        published = cast("dict[str, Statistics]", self.published())
        return [(str(split), Statistics(0, len(self.listed(split)), 0), published.get(split)) for split in self.splits]

    def examples(
        self, samples: Sequence[Sample], transform: Transform, **options: Unpack[ImagesOptions]
    ) -> AttributeImages:
        """Wrap samples in a dataset with attribute labels; see `AttributeImages`."""
        return AttributeImages(samples, transform, self.labels_of(samples), **options)

    @cached_property
    def _table(self) -> AttributeTable:
        table = self.table()
        for name in table.names:
            if not name.strip() or table.names.count(name) > 1:
                raise ValueError(f"data={self.name}: attribute name {name!r} is blank or duplicated. Rename it.")
        if not table.names:
            raise ValueError(f"data={self.name} contains no attributes. {self.how_to_obtain}")
        return table

    @cached_property
    def _labels(self) -> dict[str, Sequence[int]]:
        """Labels by image path."""
        return {row.path: row.labels for row in self._table.rows}
