"""Base class of all datasets: a LightningDataModule that builds loaders from lists of samples."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypedDict, Unpack

import cv2
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Sampler

from reidlit.data.decode import decode
from reidlit.data.former_names import FormerName, adopt_former_names
from reidlit.data.images import Images, ImagesOptions, Item, Read, Transform
from reidlit.data.loader import ResumableLoader
from reidlit.data.pack_writer import pack_once
from reidlit.data.packed import FORM, Packed, pack_name
from reidlit.data.sample import Draw, Sample
from reidlit.data.splits import EvalSet, hold_out
from reidlit.foreign_files import expanded

MAX_WORKERS = 8  # one GPU cannot consume the images of more workers

Split = Literal["train", "query", "gallery"]
ALL_SPLITS: tuple[Split, ...] = ("train", "query", "gallery")


class Statistics(NamedTuple):
    """Size of a split; `cameras` is `None` if the number is not published."""

    identities: int
    images: int
    cameras: int | None

    def agrees(self, published: "Statistics") -> bool:
        """Return True if the counts equal the published ones; an unpublished number of cameras is ignored."""
        return self == published or (published.cameras is None and self[:2] == published[:2])


def count(samples: Sequence[Sample]) -> Statistics:
    """Count the identities, images and cameras of samples; negative camids are not counted as cameras."""
    return Statistics(len({s.pid for s in samples}), len(samples), len({s.camid for s in samples if s.camid >= 0}))


class BatchSamplerFactory(Protocol):
    """Function that builds the batch sampler of one rank; `conf/sampler` contains partial classes of this type."""

    def __call__(
        self, *, samples: Sequence[Sample], batch_size: int, seed: int, rank: int, world_size: int
    ) -> Sampler[list[Draw]]:
        """Build the batch sampler of one rank; `batch_size` is the total over all ranks."""


class Loading(TypedDict):
    """Options that all datasets share."""

    name: str | None
    train_transform: Transform
    test_transform: Transform
    sampler: BatchSamplerFactory
    batch_size: int
    test_batch_size: int
    num_workers: int | None
    val_fraction: float
    combineall: bool
    k_tfm: int
    pack: Literal["decoded"] | None
    pack_dir: str
    seed: int


class ReIDDataModule(pl.LightningDataModule):
    """Data module of one dataset.

    A subclass implements `samples` and declares the attributes that describe the dataset.

    Attributes:
        name: Dataset name, under which scores are logged.
        folder: Path of the dataset's folder below the root, as in Torchreid.
        splits: Splits of the dataset; some datasets have only training or only test splits.
        junk_pids: Pids that are excluded from training, such as background.
        statistics: Published size of each split.
        licence: Terms of use.
        paper: Authors, title, venue and year of the paper.
        how_to_obtain: Sentences that tell the user where to get the data and where to put it. If the dataset has a
            `url`, the default refers to it.
        url: Address of an archive that can be downloaded without registration, or `None`.
        sha256: SHA-256 checksum of that archive, or `None` if it is unknown.
        usage_notice: Notice that commands show to every user of the dataset, or `None`.
        item_name: Plural name of a sample in messages ("images", "tracklets").
        labels_identities: Whether samples are labeled with identities, not only with attributes.

    Args:
        root: Folder that contains the folders of the datasets.
        name: Name under which scores are logged instead of the dataset's own; needed if a dataset is used twice.
        train_transform: Augmentation, from (H, W, 3) uint8 to (H, W, 3) uint8.
        test_transform: Transform for evaluation, with the same input and output.
        sampler: Factory of the training batch sampler.
        batch_size: Number of images (or clips) in a training step, over all devices.
        test_batch_size: Number of images (or clips) per device in evaluation.
        num_workers: Number of decoding processes; 0 decodes in the main process, `None` uses one per core, at most 8.
        val_fraction: Fraction of the training identities to hold out for validation; 0 disables validation.
        combineall: Whether to add query and gallery, without junk, to the training split.
        k_tfm: Number of differently augmented views per image. Views of an image are adjacent in the batch, which
            then contains `k_tfm * batch_size` images.
        pack: "decoded" stores the pixels of all images in one file that the workers share, see `packed`; `None` reads
            the image files.
        pack_dir: Folder of the packs.
        seed: Random seed of the sample order, the augmentation and the held-out identities.

    Raises:
        ValueError: If an option is out of range.
    """

    name: str
    folder: ClassVar[str]
    splits: ClassVar[tuple[Split, ...]] = ALL_SPLITS
    junk_pids: ClassVar[Collection[int]] = ()
    statistics: ClassVar[dict[Split, Statistics]] = {}
    licence: ClassVar[str]
    paper: ClassVar[str]
    how_to_obtain: ClassVar[str]
    url: ClassVar[str | None] = None
    sha256: ClassVar[str | None] = None
    usage_notice: ClassVar[str | None] = None
    item_name: str = "images"
    labels_identities: ClassVar[bool] = True
    source = FormerName("how_to_obtain")
    notice = FormerName("usage_notice")
    unit = FormerName("item_name")
    has_identities = FormerName("labels_identities")

    def __init_subclass__(cls, **options: Any) -> None:
        """Accept the former names of attributes for one release, and derive `how_to_obtain` from `url`."""
        super().__init_subclass__(**options)
        adopt_former_names(cls, ReIDDataModule)
        if cls.url and not hasattr(cls, "how_to_obtain"):
            cls.how_to_obtain = f"Download it from {cls.url}."

    def __init__(self, root: str, **loading: Unpack[Loading]) -> None:
        super().__init__()
        self.root = expanded(root)
        self.loading = loading
        self.name = loading["name"] or self.name
        self.sources: list[ReIDDataModule] = [self]  # training datasets
        self.targets: list[ReIDDataModule] = [self]  # test datasets
        for option, value, least in (
            ("batch_size", loading["batch_size"], 1),
            ("test_batch_size", loading["test_batch_size"], 1),
            ("num_workers", loading["num_workers"] or 0, 0),
            ("val_fraction", loading["val_fraction"], 0),
            ("k_tfm", loading["k_tfm"], 1),
        ):
            if value < least:
                raise ValueError(f"data.{option}={value} is invalid: must be at least {least}.")
        if loading["pack"] not in (None, FORM):
            raise ValueError(
                f"data.pack={loading['pack']} is invalid: must be null or {FORM}. Packs of encoded images were removed "
                f"because they were hardly faster than image files; use data.pack={FORM}."
            )
        self.train: list[Sample] = []
        self.val: EvalSet | None = None
        self.test_sets: dict[str, EvalSet] = {}
        self.labels: dict[int, int] = {}
        self.read: Read = decode

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split in sorted order, without decoding images.

        Pids and camids have the same meaning in every split. If the camera is unknown, camid is -1. An image that is
        both query and gallery entry has one negative camid below -1 in both splits, so that it does not match itself.

        Args:
            split: One of `splits`.
        """
        raise NotImplementedError

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Return the sample of an image file; implemented by datasets that encode labels in file or folder names.

        Raises:
            ValueError: If the name does not match or a number is out of range.
        """
        raise NotImplementedError

    def published(self) -> dict[Split, Statistics]:
        """Return the published sizes of the splits that the options select; unknown sizes are left out."""
        return self.statistics

    @property
    def directory(self) -> Path:
        """Folder of this dataset."""
        return self.root / self.folder

    @property
    def split_path(self) -> Path | None:
        """File that stores a randomly drawn split, or `None`."""
        return None

    @property
    def parts(self) -> "list[ReIDDataModule]":
        """Datasets that this one combines, without duplicates, sources first."""
        return list(dict.fromkeys([*self.sources, *self.targets]))

    @property
    def pids(self) -> list[int]:
        """Training identities; the class label of an identity is its index in this list."""
        return list(self.labels)

    def prepare_data(self) -> None:
        """Pack the images if `pack` is set and no pack exists; a subclass that creates images calls this at the end."""
        if self.loading["pack"] is not None:
            pack_once(*self._pack(), progress=True)

    def reader(self) -> Read:
        """Return the function that reads an image, from the pack or from the file."""
        if self.loading["pack"] is None:
            return decode
        _, file, root = self._pack()
        return Packed(file, root)

    def _pack(self) -> tuple[list[str], Path, Path]:
        """Return the image paths of all splits, the path of the pack, and the folder of the images."""
        samples = [sample for split in self.splits for sample in self.listed(split)]
        paths = [
            path for sample in samples for path in ((sample.path,) if isinstance(sample.path, str) else sample.path)
        ]
        name = pack_name(self.name, paths, self.directory)
        return paths, expanded(self.loading["pack_dir"]) / name, self.directory

    def setup(self, stage: str) -> None:
        """List the splits that a stage needs.

        Args:
            stage: "fit" or "test".

        Raises:
            FileNotFoundError: If the dataset does not exist.
            ValueError: If a split is empty or the dataset has no training split.
        """
        self.read = self.reader()
        if stage == "fit" and not self.train:
            self.train = self.training_samples()
            if self.loading["val_fraction"] > 0:
                self.train, self.val = hold_out(self.train, self.loading["val_fraction"], self.loading["seed"])
            self.labels = {pid: label for label, pid in enumerate(sorted({sample.pid for sample in self.train}))}
        if stage == "test" and not self.test_sets:
            self.test_sets = self.eval_sets()

    def listed(self, split: Split) -> list[Sample]:
        """List the samples of a split and check that there are any.

        Raises:
            FileNotFoundError: If the dataset does not exist.
            ValueError: If the split is empty.
        """
        if not self.directory.is_dir():
            option = "download=true" if self.url else "archive=<file>"
            raise FileNotFoundError(
                f"data.root={str(self.root)!r} does not contain {self.name}: {self.directory} does not exist. Run "
                f"`reidlit prepare data={self.name} {option}`, or set data.root or REIDLIT_DATA. {self.how_to_obtain}"
            )
        samples = self.samples(split)
        if not samples:
            raise ValueError(
                f"data={self.name} has no {split} {self.item_name}: {self.directory} is empty or has an unexpected "
                "layout. Unpack the archive again."
            )
        return samples

    def training_samples(self) -> list[Sample]:
        """List the training samples without junk, including query and gallery if `combineall` is set.

        Raises:
            ValueError: If the dataset has no training split.
        """
        splits = [split for split in self.splits if split == "train" or self.loading["combineall"]]
        if not splits:
            raise ValueError(
                f"data={self.name} has no training split. Train on another dataset and test on this one with "
                f"data=multi, data.sources=[market1501] and data.targets=[{self.name}]; or set data.combineall=true."
            )
        listed = [sample for split in splits for sample in self.listed(split)]
        return [sample for sample in dict.fromkeys(listed) if sample.pid not in self.junk_pids]

    def eval_sets(self) -> dict[str, EvalSet]:
        """Return the test sets by the names under which scores are logged; empty if the dataset has no test splits."""
        if "query" not in self.splits:
            return {}
        return {self.name: EvalSet(self.listed("query"), self.listed("gallery"))}

    def verify(self) -> list[tuple[str, Statistics, Statistics | None]]:
        """Return the name, the actual size and the published size (`None` if unknown) of each split."""
        published = self.published()
        return [(split, count(self.listed(split)), published.get(split)) for split in self.splits]

    def examples(self, samples: Sequence[Sample], transform: Transform, **options: Unpack[ImagesOptions]) -> Images:
        """Wrap samples in a `torch.utils.data.Dataset`; see `Images`."""
        return Images(samples, transform, **options)

    def train_dataloader(self) -> DataLoader[Item]:
        """Return the loader of augmented training batches; each device gets `batch_size / devices` images."""
        return self._training_loader(self.train, self.labels)

    def val_dataloader(self) -> list[DataLoader[Item]]:
        """Return the loader of the held-out identities, or an empty list."""
        return [] if self.val is None else [self._eval_loader(self.val)]

    def test_dataloader(self) -> dict[str, DataLoader[Item]]:
        """Return one loader per test set, by the name under which scores are logged; queries come first."""
        return {name: self._eval_loader(sets) for name, sets in self.test_sets.items()}

    def _training_loader(self, samples: Sequence[Sample], labels: dict[int, int]) -> DataLoader[Item]:
        rank, world_size = self._rank()
        batches = self.loading["sampler"](
            samples=samples,
            batch_size=self.loading["batch_size"],
            seed=self.loading["seed"],
            rank=rank,
            world_size=world_size,
        )
        images = self.examples(
            samples,
            self.loading["train_transform"],
            labels=labels,
            seed=self.loading["seed"],
            views=self.loading["k_tfm"],
            read=self.read,
        )
        return ResumableLoader(images, batches, collate_fn=images.collate, **self._workers())

    def _eval_loader(self, sets: EvalSet) -> DataLoader[Item]:
        images = self.examples(
            [*sets.query, *sets.gallery],
            self.loading["test_transform"],
            num_queries=len(sets.query),
            read=self.read,
        )
        rank, world_size = self._rank()
        indices = range(rank, len(images), world_size)  # no padding: each image counts once, so scores are exact
        batches = images.eval_batches(indices, self.loading["test_batch_size"])
        return DataLoader(images, batch_sampler=batches, collate_fn=images.collate, **self._workers())

    def _workers(self) -> dict[str, Any]:
        workers = self.loading["num_workers"]
        if workers is None:
            workers = min(
                MAX_WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            )
        return {
            "num_workers": workers,
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": workers > 0,
            "worker_init_fn": _one_thread,
        }

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def _one_thread(worker: int) -> None:
    """Disable OpenCV's threads, which would compete with other workers and with training."""
    del worker
    cv2.setNumThreads(0)
