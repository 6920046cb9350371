"""Several datasets as one: sources to train on, targets to test on."""

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
    """Trains on the union of its sources and tests on each of its targets.

    Identities, cameras and datasets of the sources are numbered one source after the other, without collision; `dsetid`
    is the source's position. Targets keep their own numbers, and each is scored by itself.

    Args:
        root: the folder that holds the datasets' folders, of each dataset that names no other.
        sources: to train on.
        targets: to test on; `None` stands for the sources.
        load_train_targets: whether the targets' training images are wanted, unlabelled, for adaptation; they come from
            `target_dataloader`.
        loading: see `ReIDDataModule`; `combineall` is applied to each source.

    Raises:
        ValueError: if there is no source, two of one name, or a target that is a source while its training images are to
            be unlabelled.
    """

    folder = ""
    licence = "that of each dataset"
    paper = "see each dataset"
    how_to_obtain = "Each dataset says where it is to be had."

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
            raise ValueError("data.sources=[] names no dataset to train on; data.sources=[market1501,msmt17], say.")
        self.sources = list(sources)
        self.targets = self.sources if targets is None else list(targets)
        self.load_train_targets = load_train_targets
        if other := next((part for part in self.parts if part.item_name != self.item_name), None):
            raise ValueError(
                f"{other.name} holds {other.item_name}, not {self.item_name}: data=multi is for images, data=multi_video for tracklets."
            )
        names = [source.name for source in self.sources]
        for option, datasets in (("sources", self.sources), ("targets", self.targets)):
            listed = [dataset.name for dataset in datasets]
            if len(set(listed)) < len(listed):
                raise ValueError(
                    f"data.{option}={listed} names one twice; tell them apart by a name, as in {{market1501:{{name:second}}}}."
                )
        both = [target.name for target in self.targets if target.name in names]
        if load_train_targets and both:
            raise ValueError(
                f"data.load_train_targets=true needs targets that are no sources, but {both} are both: their training "
                "images cannot be labelled and unlabelled at once."
            )
        self.target_train: list[Sample] = []

    def prepare_data(self) -> None:
        """Prepare each dataset."""
        for part in self.parts:
            part.prepare_data()

    def reader(self) -> Read:
        """What reads an image: the pack of the dataset that it belongs to, or the file itself."""
        packs = [read for part in self.parts if isinstance(read := part.reader(), Packed)]
        return FirstThatHas(packs) if packs else decode

    def setup(self, stage: str) -> None:
        """List what a stage needs; see `ReIDDataModule.setup`."""
        super().setup(stage)
        if stage == "fit" and self.load_train_targets and not self.target_train:
            self.target_train = _one_after_the_other([target.listed("train") for target in self.targets])

    def training_samples(self) -> list[Sample]:
        """The union of what the sources train on."""
        return _one_after_the_other([source.training_samples() for source in self.sources])

    def eval_sets(self) -> dict[str, EvalSet]:
        """The test sets of all targets; those that are for training only have none.

        Raises:
            ValueError: if a target that was asked for by name has no test images.
        """
        found = {name: sets for target in self.targets for name, sets in target.eval_sets().items()}
        without = [target.name for target in self.targets if target.name not in found]
        if without and self.targets is not self.sources:
            raise ValueError(f"data.targets: {without} are for training only and have no test images.")
        return found

    def samples(self, split: Split) -> list[Sample]:
        """The union of the sources' splits, numbered as in training."""
        return _one_after_the_other([source.listed(split) for source in self.sources if split in source.splits])

    def verify(self) -> list[tuple[str, Statistics, Statistics | None]]:
        """Each dataset's splits, and the union of what is trained on."""
        rows = [(f"{part.name}/{name}", found, known) for part in self.parts for name, found, known in part.verify()]
        return [*rows, ("all sources/train", count(self.training_samples()), None)]

    def target_dataloader(self) -> DataLoader[Item]:
        """The targets' training images, augmented as the sources' are, every label -1; for adaptation.

        Raises:
            ValueError: if they were not asked for.
        """
        if not self.load_train_targets:
            raise ValueError("data.load_train_targets=false: set it to true to have the targets' training images.")
        labels = dict.fromkeys((sample.pid for sample in self.target_train), UNKNOWN)
        return self._training_loader(self.target_train, labels)


class MultiVideo(Multi, VideoDataModule):
    """The same of datasets of tracklets; see `Multi` and `VideoDataModule`."""


class FirstThatHas:
    """Reads each image from the first pack that has it."""

    def __init__(self, packs: Sequence[Packed]) -> None:
        self.packs = packs

    def __call__(self, path: str) -> Array:
        """See `Packed`."""
        return next((pack for pack in self.packs if path in pack), self.packs[0])(path)


def _one_after_the_other(lists: Sequence[list[Sample]]) -> list[Sample]:
    """The lists as one, each numbered from where the one before ended; an unknown camera stays unknown."""
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
