"""Combination of several datasets: sources to train on and targets to test on."""

from collections.abc import Sequence
from typing import Unpack

from torch.utils.data import DataLoader

from reidlit.data.datamodule import Loading, ReIDDataModule, Split, Statistics, count
from reidlit.data.decode import decode
from reidlit.data.images import Array, Item, Read
from reidlit.data.packed import Packed
from reidlit.data.sample import Sample
from reidlit.data.splits import EvalSet
from reidlit.data.video import VideoDataModule
from reidlit.labels import UNKNOWN


class Multi(ReIDDataModule):
    """Combination of image datasets: training uses the union of the sources, and each target is tested separately.

    Pids and camids of the sources are renumbered so that they do not collide, and `dsetid` is the index of the source.
    Targets keep their numbers.

    Args:
        root: Folder that contains the folders of the datasets, unless a dataset has its own root.
        sources: Datasets to train on.
        targets: Datasets to test on; `None` uses the sources.
        load_train_targets: Whether to load the training images of the targets without labels, for domain adaptation;
            see `target_dataloader`.
        loading: Options of `ReIDDataModule`; `combineall` applies to each source.

    Raises:
        ValueError: If there are no sources, names are not unique, datasets of images and tracklets are mixed, or
            `load_train_targets` is set and a target is also a source.
    """

    folder = ""
    licence = "see the datasets"
    paper = "see the datasets"
    how_to_obtain = "See how to obtain each of the datasets."

    def __init__(
        self,
        root: str,
        sources: Sequence[ReIDDataModule],
        targets: Sequence[ReIDDataModule] | None = None,
        load_train_targets: bool = False,
        **loading: Unpack[Loading],
    ) -> None:
        self.name = "+".join(source.name for source in sources)
        super().__init__(root, **loading)
        if not sources:
            raise ValueError(
                "data.sources=[] is invalid: at least one dataset is required, for example "
                "data.sources=[market1501,msmt17]."
            )
        self.sources = list(sources)
        self.targets = self.sources if targets is None else list(targets)
        self.load_train_targets = load_train_targets
        if other := next((part for part in self.parts if part.item_name != self.item_name), None):
            raise ValueError(
                f"{other.name} contains {other.item_name} instead of {self.item_name}. Use data=multi for images and "
                "data=multi_video for tracklets."
            )
        names = [source.name for source in self.sources]
        for option, datasets in (("sources", self.sources), ("targets", self.targets)):
            listed = [dataset.name for dataset in datasets]
            if len(set(listed)) < len(listed):
                raise ValueError(
                    f"data.{option}={listed} contains a duplicate name. Give each dataset a unique name, for example "
                    "{market1501:{name:second}}."
                )
        both = [target.name for target in self.targets if target.name in names]
        if load_train_targets and both:
            raise ValueError(
                f"data.load_train_targets=true is invalid: {both} are both sources and targets, so their training "
                "images would be labeled and unlabeled. Remove them from data.sources or data.targets."
            )
        self.target_train: list[Sample] = []

    def prepare_data(self) -> None:
        """Prepare each dataset."""
        for part in self.parts:
            part.prepare_data()

    def reader(self) -> Read:
        """Return the function that reads an image, from the pack of its dataset or from the file."""
        packs = [read for part in self.parts if isinstance(read := part.reader(), Packed)]
        return CombinedPacks(packs) if packs else decode

    def setup(self, stage: str) -> None:
        """List the splits that a stage needs; see `ReIDDataModule.setup`."""
        super().setup(stage)
        if stage == "fit" and self.load_train_targets and not self.target_train:
            self.target_train = _concatenate([target.listed("train") for target in self.targets])

    def training_samples(self) -> list[Sample]:
        """List the training samples of all sources."""
        return _concatenate([source.training_samples() for source in self.sources])

    def eval_sets(self) -> dict[str, EvalSet]:
        """Return the test sets of all targets; sources without test splits are skipped.

        Raises:
            ValueError: If an explicit target has no test splits.
        """
        test_sets = {name: sets for target in self.targets for name, sets in target.eval_sets().items()}
        without = [target.name for target in self.targets if target.name not in test_sets]
        if without and self.targets is not self.sources:
            raise ValueError(f"data.targets: {without} have no test splits. Remove them from data.targets.")
        return test_sets

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split of all sources, numbered as in training."""
        return _concatenate([source.listed(split) for source in self.sources if split in source.splits])

    def verify(self) -> list[tuple[str, Statistics, Statistics | None]]:
        """Return the sizes of the splits of each dataset, and of the combined training split."""
        rows = [
            (f"{part.name}/{name}", actual, published)
            for part in self.parts
            for name, actual, published in part.verify()
        ]
        return [*rows, ("all sources/train", count(self.training_samples()), None)]

    def target_dataloader(self) -> DataLoader[Item]:
        """Return a loader of the augmented, unlabeled training images of the targets, in which each label is -1.

        Raises:
            ValueError: If `load_train_targets` is False.
        """
        if not self.load_train_targets:
            raise ValueError(
                "data.load_train_targets=false: set it to true to load the training images of the targets."
            )
        labels = dict.fromkeys((sample.pid for sample in self.target_train), UNKNOWN)
        return self._training_loader(self.target_train, labels)


class MultiVideo(Multi, VideoDataModule):
    """Combination of video datasets; see `Multi` and `VideoDataModule`."""


class CombinedPacks:
    """Reader that reads each image from the first pack that contains it."""

    def __init__(self, packs: Sequence[Packed]) -> None:
        self.packs = packs

    def __call__(self, path: str) -> Array:
        """Return the pixels of an image; see `Packed`."""
        return next((pack for pack in self.packs if path in pack), self.packs[0])(path)


def _concatenate(lists: Sequence[list[Sample]]) -> list[Sample]:
    """Concatenate lists with disjoint pids and camids; unknown cameras stay unknown."""
    joined: list[Sample] = []
    first_pid = first_camid = 0
    for dsetid, samples in enumerate(lists):
        least = min(sample.pid for sample in samples)
        joined += [
            Sample(s.path, s.pid - least + first_pid, s.camid + first_camid if s.camid >= 0 else s.camid, dsetid)
            for s in samples
        ]
        first_pid += max(sample.pid for sample in samples) - least + 1
        first_camid += max(-1, *(sample.camid for sample in samples)) + 1
    return joined
