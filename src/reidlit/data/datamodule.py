"""A dataset is a LightningDataModule: it says where its files lie and lists them; all else is here."""

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

MAX_WORKERS = 8  # more decode faster than one GPU trains

Split = Literal["train", "query", "gallery"]
ALL_SPLITS: tuple[Split, ...] = ("train", "query", "gallery")


class Statistics(NamedTuple):
    """The size of a split; cameras is None where their number is not published."""

    identities: int
    images: int
    cameras: int | None

    def agrees(self, published: "Statistics") -> bool:
        """Whether this is as published, as far as that is known."""
        return self == published or (published.cameras is None and self[:2] == published[:2])


def count(samples: Sequence[Sample]) -> Statistics:
    """How many identities, images and cameras there are; negative camids are no cameras."""
    return Statistics(len({s.pid for s in samples}), len(samples), len({s.camid for s in samples if s.camid >= 0}))


class MakeBatches(Protocol):
    """Makes the batch sampler of one rank; conf/sampler holds such partial classes."""

    def __call__(
        self, *, samples: Sequence[Sample], batch_size: int, seed: int, rank: int, world_size: int
    ) -> Sampler[list[Draw]]:
        """The batch sampler of one rank; `batch_size` is that of all ranks together."""


class Loading(TypedDict):
    """What every dataset takes besides its own options."""

    name: str | None
    train_transform: Transform
    test_transform: Transform
    sampler: MakeBatches
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
    """Loaders of one dataset. A subclass implements `samples`, and says what the dataset is.

    Attributes:
        name: under which its scores are logged.
        folder: where it lies below the root, as in Torchreid.
        splits: those that it has; some datasets are for training only, or for testing only.
        junk_pids: what is no identity to train on, such as background.
        statistics: the published sizes.
        licence: on what terms its authors give it.
        paper: authors, title, venue, year.
        how_to_obtain: Sentences that say where to get the data and where to put it; by default, for a dataset with a
            `url`, that its authors publish it there.
        url: an archive that anybody may fetch, if there is one.
        sha256: of that archive, where it is known.
        usage_notice: Text that commands show to everybody who uses the dataset.
        item_name: What a sample is called in messages, in the plural.
        labels_identities: Whether samples have identities, not only attributes.

    Args:
        root: the folder that holds the datasets' folders.
        name: under which the scores are logged, instead of the dataset's own; needed where one comes twice.
        train_transform: (H, W, 3) uint8 -> the same, with augmentation.
        test_transform: likewise, without.
        sampler: makes the training batches.
        batch_size: of a training step, over all devices together.
        test_batch_size: of one device in evaluation.
        num_workers: processes that decode; 0 decodes in the training process, `None` takes one a core, at most eight.
        val_fraction: share of the training identities that is held out for validation; 0 holds out none.
        combineall: whether to train on query and gallery too, without the junk.
        k_tfm: how many differently augmented views of an image a training batch holds, one after the other; the batch
            then has `k_tfm * batch_size` images.
        pack: "decoded" keeps the pixels of all images in one file that all workers share; see `packed`. `None` reads
            the image files.
        pack_dir: where packs lie.
        seed: of order, augmentation and the held-out identities.

    Raises:
        ValueError: if a number is out of range.
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
            cls.how_to_obtain = f"Its authors give it at {cls.url}."

    def __init__(self, root: str, **loading: Unpack[Loading]) -> None:
        super().__init__()
        self.root = Path(root).expanduser()
        self.loading = loading
        self.name = loading["name"] or self.name
        self.sources: list[ReIDDataModule] = [self]  # what is trained on
        self.targets: list[ReIDDataModule] = [self]  # what is tested on
        for option, value, least in (
            ("batch_size", loading["batch_size"], 1),
            ("test_batch_size", loading["test_batch_size"], 1),
            ("num_workers", loading["num_workers"] or 0, 0),
            ("val_fraction", loading["val_fraction"], 0),
            ("k_tfm", loading["k_tfm"], 1),
        ):
            if value < least:
                raise ValueError(f"data.{option}={value} must be {least} or more.")
        if loading["pack"] not in (None, FORM):
            raise ValueError(
                f"data.pack={loading['pack']} must be null or {FORM}. Packs of image files (encoded) were removed, as they were "
                f"hardly faster than the files: use data.pack={FORM}."
            )
        self.train: list[Sample] = []
        self.val: EvalSet | None = None
        self.test_sets: dict[str, EvalSet] = {}
        self.labels: dict[int, int] = {}
        self.read: Read = decode

    def samples(self, split: Split) -> list[Sample]:
        """List one of `splits` from file names, sorted, decoding nothing.

        A pid means the same person, and a camid the same camera, in every split. Where no camera is known, camid is -1,
        or, in a query that is in the gallery too, the same number below -1 in both: then it does not find itself.
        """
        raise NotImplementedError

    @staticmethod
    def parse_name(path: Path) -> Sample:
        """Return the sample of an image file; for datasets that read labels from the names of files and folders.

        Raises:
            ValueError: If the name does not match or a number is out of range.
        """
        raise NotImplementedError

    def published(self) -> dict[Split, Statistics]:
        """The published sizes of the splits as this object's options choose them, where they are known."""
        return self.statistics

    @property
    def directory(self) -> Path:
        """Where this dataset lies."""
        return self.root / self.folder

    @property
    def split_path(self) -> Path | None:
        """The file that keeps the split where we drew it."""
        return None

    @property
    def parts(self) -> "list[ReIDDataModule]":
        """Every dataset that this one is made of, once, sources first."""
        return list(dict.fromkeys([*self.sources, *self.targets]))

    @property
    def pids(self) -> list[int]:
        """The training identities; a class label is the position in this list."""
        return list(self.labels)

    def prepare_data(self) -> None:
        """Pack the images, if that is wanted and not done yet; a subclass that makes files first calls this last."""
        if self.loading["pack"] is not None:
            pack_once(*self._pack(), progress=True)

    def reader(self) -> Read:
        """What reads an image: a pack, or the file itself."""
        if self.loading["pack"] is None:
            return decode
        _, file, root = self._pack()
        return Packed(file, root)

    def _pack(self) -> tuple[list[str], Path, Path]:
        """The images of all splits, the pack that holds them, and the folder that they lie in."""
        samples = [sample for split in self.splits for sample in self.listed(split)]
        paths = [
            path for sample in samples for path in ((sample.path,) if isinstance(sample.path, str) else sample.path)
        ]
        name = pack_name(self.name, paths, self.directory)
        return paths, Path(self.loading["pack_dir"]).expanduser() / name, self.directory

    def setup(self, stage: str) -> None:
        """List the splits that a stage needs.

        Raises:
            FileNotFoundError: if the dataset is not there.
            ValueError: if a split is empty, or the dataset has none to train on.
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
        """`samples`, with an error that tells the way out where there are none.

        Raises:
            FileNotFoundError: if the dataset is not there.
            ValueError: if the split is empty.
        """
        if not self.directory.is_dir():
            way = "download=true" if self.url else "archive=<file>"
            raise FileNotFoundError(
                f"data.root={str(self.root)!r}: {self.name} is not there, its folder would be {self.directory}. "
                f"Get it with `reidlit prepare data={self.name} {way}`, or give data.root or REIDLIT_DATA. "
                f"{self.how_to_obtain}"
            )
        found = self.samples(split)
        if not found:
            raise ValueError(
                f"data={self.name}: no {split} {self.item_name} under {self.directory}. The folder is empty or laid out "
                "otherwise; unpack the archive again."
            )
        return found

    def training_samples(self) -> list[Sample]:
        """All that may be trained on, with query and gallery if `combineall`.

        Raises:
            ValueError: if the dataset is for testing only.
        """
        splits = [split for split in self.splits if split == "train" or self.loading["combineall"]]
        if not splits:
            raise ValueError(
                f"data={self.name} is for testing only. Train on another dataset and name this one as its target: "
                f"data=multi data.sources=[market1501] and data.targets; or train on it with data.combineall=true."
            )
        listed = [sample for split in splits for sample in self.listed(split)]
        return [sample for sample in dict.fromkeys(listed) if sample.pid not in self.junk_pids]

    def eval_sets(self) -> dict[str, EvalSet]:
        """The test sets by the names under which their scores are logged; none if the dataset is for training only."""
        if "query" not in self.splits:
            return {}
        return {self.name: EvalSet(self.listed("query"), self.listed("gallery"))}

    def verify(self) -> list[tuple[str, Statistics, Statistics | None]]:
        """Each split's size as found, and as published where it is known."""
        published = self.published()
        return [(split, count(self.listed(split)), published.get(split)) for split in self.splits]

    def examples(self, samples: Sequence[Sample], transform: Transform, **options: Unpack[ImagesOptions]) -> Images:
        """Samples as what a loader loads; see `Images`."""
        return Images(samples, transform, **options)

    def train_dataloader(self) -> DataLoader[Item]:
        """Augmented batches of labelled images, (B / devices) on each device."""
        return self._training_loader(self.train, self.labels)

    def val_dataloader(self) -> list[DataLoader[Item]]:
        """The held-out identities, if any."""
        return [] if self.val is None else [self._eval_loader(self.val)]

    def test_dataloader(self) -> dict[str, DataLoader[Item]]:
        """One loader a test set, queries first, by the name under which its scores are logged."""
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
        share = range(rank, len(images), world_size)  # every image once: no padding, so the scores are exact
        batches = images.eval_batches(share, self.loading["test_batch_size"])
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
    """OpenCV's own threads would compete with the other workers and with the training."""
    del worker
    cv2.setNumThreads(0)
