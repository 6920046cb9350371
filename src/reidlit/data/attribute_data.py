"""Images with attributes instead of identities."""

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
    """An image, its split, and for each attribute 1 for yes, 0 for no, -1 where it is not known."""

    path: str
    split: str
    labels: Sequence[int]


class AttributeTable(NamedTuple):
    """The attributes' names, and all images."""

    names: tuple[str, ...]
    rows: Sequence[AttributeRow]


class AttributeBatch(Batch):
    """A collated batch with the images' attributes; identities and cameras are -1 where none are known."""

    attributes: Tensor  # (B, A) int8; 1 for yes, 0 for no, -1 where it is not known


class AttributeImages(Images):
    """Images whose batches bring the attributes.

    Args:
        samples: see `Images`, as all that is not named here.
        transform: likewise.
        attributes: (N, A) labels of the samples.
        labels: see `Images`.
        num_queries: likewise.
        seed: likewise.
        views: likewise.
        read: likewise.
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

    def collate(self, items: Sequence[Item]) -> AttributeBatch:  # type: ignore[override]  # it needs the table
        """Stack items; see `Images.collate`."""
        return AttributeBatch(**Images.collate(items), attributes=self.attributes[[item.index for item in items]])


class AttributeDataModule(ReIDDataModule):
    """Loaders of images with attributes. A subclass implements `table`, and says what the dataset is.

    Training is on `train`, validation on `val`, and a test on `test`; nothing is chosen by the test split.

    Args:
        root: the folder that holds the datasets' folders.
        loading: see `ReIDDataModule`. There are no identities to hold out, so `val_fraction` must be 0 where the dataset
            brings its validation split, and nothing to combine.

    Attributes:
        names: the attributes whose labels batches bring, in that order; a model that was trained before sets its own. Labels
            of those that the dataset does not have are not known.

    Raises:
        ValueError: if an option is out of range or has no meaning here.
    """

    splits: ClassVar[tuple[Any, ...]] = ATTRIBUTE_SPLITS
    brings_val: ClassVar[bool] = True
    labels_identities: ClassVar[bool] = False

    def __init__(self, root: str, **loading: Unpack[Loading]) -> None:
        super().__init__(root, **loading)
        if loading["combineall"]:
            raise ValueError("data.combineall=true would train on the images that are tested. Leave it out.")
        if self.brings_val and loading["val_fraction"]:
            raise ValueError(
                f"data.val_fraction={loading['val_fraction']}: data={self.name} brings a validation split. Leave it out."
            )
        self._chosen: tuple[str, ...] | None = None

    def table(self) -> AttributeTable:
        """List all images with their attributes, decoding nothing. Each path comes once.

        Raises:
            FileNotFoundError: if the dataset is not there.
            ValueError: if it cannot be understood.
        """
        raise NotImplementedError

    @property
    def names(self) -> tuple[str, ...]:
        """See the class."""
        return self._table.names if self._chosen is None else self._chosen

    @names.setter
    def names(self, names: Sequence[str]) -> None:
        if not set(names) & set(self._table.names):
            raise ValueError(
                f"data={self.name} has none of the attributes {', '.join(names)}; it has {', '.join(self._table.names)}."
            )
        self._chosen = tuple(names)

    @property
    def missing(self) -> list[str]:
        """Those of `names` that the dataset does not have."""
        return [name for name in self.names if name not in self._table.names]

    @property
    def ratios(self) -> list[float]:
        """The share of positive labels of each attribute among the known ones of the training split.

        Raises:
            ValueError: if no label of an attribute is known there.
        """
        labels = self.labels_of(self.training_samples())
        known = (labels >= 0).sum(0)
        if unknown := [name for name, count in zip(self.names, known, strict=True) if not count]:
            raise ValueError(
                f"data={self.name}: no training image tells whether it has {', '.join(unknown)}. Leave such attributes out."
            )
        shares: list[float] = ((labels > 0).sum(0) / known).tolist()
        return shares

    def labels_of(self, samples: Iterable[Sample]) -> Labels:
        """(N, A) labels of samples, by `names`."""
        listed = np.array([self._labels[str(sample.path)] for sample in samples], np.int8)
        places = {name: place for place, name in enumerate(self._table.names)}
        labels = np.full((len(listed), len(self.names)), UNKNOWN, np.int8)
        for column, name in enumerate(self.names):
            if name in places:
                labels[:, column] = listed[:, places[name]]
        return labels

    def samples(self, split: str) -> list[Sample]:
        """List a split; see `table`."""
        return [Sample(row.path, UNKNOWN, UNKNOWN) for row in self._table.rows if row.split == split]

    def setup(self, stage: str) -> None:
        """List the splits that a stage needs; see `ReIDDataModule.setup`."""
        self.read = self.reader()
        if stage == "fit" and not self.train:
            self.train = self.training_samples()
            self.labels = {UNKNOWN: 0}
            held = self.samples("val")
            self.val = EvalSet([], held) if held else None
        if stage == "test" and not self.test_sets:
            self.test_sets = self.eval_sets()

    def training_samples(self) -> list[Sample]:
        """The training split."""
        return self.listed("train")

    def eval_sets(self) -> dict[str, EvalSet]:
        """The test split, if there is one; where nothing is searched for, there is no query."""
        tested = self.samples("test")
        return {self.name: EvalSet([], tested)} if tested else {}

    def verify(self) -> list[tuple[str, Statistics, Statistics | None]]:
        """Each split's size; see `ReIDDataModule.verify`."""
        published = cast("dict[str, Statistics]", self.published())
        return [(str(split), Statistics(0, len(self.listed(split)), 0), published.get(split)) for split in self.splits]

    def examples(
        self, samples: Sequence[Sample], transform: Transform, **options: Unpack[ImagesOptions]
    ) -> AttributeImages:
        """Samples with their attributes; see `AttributeImages`."""
        return AttributeImages(samples, transform, self.labels_of(samples), **options)

    @cached_property
    def _table(self) -> AttributeTable:
        table = self.table()
        for name in table.names:
            if not name.strip() or table.names.count(name) > 1:
                raise ValueError(f"data={self.name}: the attribute {name!r} is blank or there twice. Rename it.")
        if not table.names:
            raise ValueError(f"data={self.name} lists no attribute. {self.how_to_obtain}")
        return table

    @cached_property
    def _labels(self) -> dict[str, Sequence[int]]:
        """By the path of the image."""
        return {row.path: row.labels for row in self._table.rows}
