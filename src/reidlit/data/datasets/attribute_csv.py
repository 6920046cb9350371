"""A user's own images with attributes, in a table."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Unpack

from reidlit.data.attribute_data import ATTRIBUTE_SPLITS, AttributeDataModule, AttributeRow, AttributeTable
from reidlit.data.attribute_tables import LabelledLine, read_attributes
from reidlit.data.datamodule import Loading

COLUMNS = ("split", "pid")  # that are no attributes


class AttributeCSV(AttributeDataModule):
    """Images with attributes that a CSV file lists.

    Columns: `path`, and one of 0 and 1 for each attribute, empty where it is not known; and where they are known `split`
    (train, val or test) and `pid`. The file is UTF-8, with commas, semicolons or tabs. The order of the lines does not matter.

    Where no split is given, each image, or where pids are known all images of a person, has a place between 0 and 1 that
    depends on its path, or pid, and the seed alone: those below `test_fraction` are for testing, the next `val_fraction` for
    validation. So no image changes its split when others are added. Where the file has splits but none for validation, that
    is drawn from its training images in the same way.

    Args:
        file: the CSV file; it must be given.
        root: the folder from which relative paths start; `None` if they start from the file's folder.
        attributes: the columns that are attributes; `None` for all that are nothing else.
        test_fraction: share of the images to test on, about.
        split_seed: of the draw.
        loading: see `ReIDDataModule`; `val_fraction` is that of the drawn validation images. The name is that of the file
            without its suffix, if none is given.

    Raises:
        ValueError: if there is no file, or a number is out of range.
    """

    folder = ""
    brings_val: ClassVar[bool] = False
    licence = "your own data"
    paper = "none; your own data"
    how_to_obtain = (
        "List the images in data.file, with the columns path, split if it is known, and one of 0 and 1 an attribute."
    )

    def __init__(
        self,
        file: str | None,
        root: str | None = None,
        attributes: Sequence[str] | None = None,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        **loading: Unpack[Loading],
    ) -> None:
        if file is None:
            raise ValueError(f"data.file is not given: data.file=people.csv, say. {self.how_to_obtain}")
        self.file = Path(str(file)).expanduser()
        self.name = self.file.stem
        super().__init__(str(self.file.parent if root is None else root), **loading)
        self.fractions = {"test": float(test_fraction), "val": float(loading["val_fraction"])}
        if min(self.fractions.values()) < 0 or sum(self.fractions.values()) >= 1:
            raise ValueError(
                f"data.test_fraction={test_fraction} and data.val_fraction={loading['val_fraction']} must be 0 or more and "
                "leave something to train on."
            )
        self.attributes = None if attributes is None else list(attributes)
        self.split_seed = split_seed

    def table(self) -> AttributeTable:
        """List all images; see `AttributeDataModule.table`.

        Raises:
            FileNotFoundError: if the file or an image is not there.
            ValueError: if the file is no such table, or the draw leaves a split empty.
        """
        names, lines = read_attributes(self.file, "path", COLUMNS, self.attributes)
        if not lines:
            raise ValueError(f"{self.file} lists no image. {self.how_to_obtain}")
        splits = self._splits(lines)
        paths = [self.directory / line.fields["path"] for line in lines]
        if missing := [path for path in paths if not path.is_file()]:
            raise FileNotFoundError(
                f"{self.file} lists {len(missing)} images that do not exist, such as {str(missing[0])!r}. Relative paths start "
                f"from {str(self.directory)!r}; give data.root if they start elsewhere."
            )
        rows = zip(paths, splits, lines, strict=True)
        return AttributeTable(
            tuple(names), sorted(AttributeRow(str(path), split, line.labels) for path, split, line in rows)
        )

    def _splits(self, lines: Sequence[LabelledLine]) -> list[str]:
        """The split of each line: its own, or what is drawn."""
        if "split" in lines[0].fields:
            return self._given(lines)
        drawn = [self._drawn(line, ("test", "val")) for line in lines]
        for split, fraction in {"train": 1.0, **self.fractions}.items():
            if fraction and split not in drawn:
                raise ValueError(
                    f"{self.file}: of {len(lines)} images none was drawn for {split}. Give another data.split_seed, larger "
                    "fractions or a column split."
                )
        return drawn

    def _given(self, lines: Sequence[LabelledLine]) -> list[str]:
        """Those of the file, with images for validation drawn from training if it has none."""
        for line in lines:
            if (split := line.fields["split"]) not in ATTRIBUTE_SPLITS:
                raise ValueError(
                    f"{line.place}: split={split!r} must be one of {', '.join(ATTRIBUTE_SPLITS)}, on every line; or leave the "
                    "column out."
                )
        splits = [line.fields["split"] for line in lines]
        if "val" in splits or not self.fractions["val"] or "train" not in splits:
            return splits
        found = [
            self._drawn(line, ("val",)) if split == "train" else split
            for line, split in zip(lines, splits, strict=True)
        ]
        if len(Counter(found)) < len(Counter(splits)) + 1:
            raise ValueError(
                f"{self.file}: data.val_fraction={self.fractions['val']} of the training images leaves a split empty. Give "
                "another, or images of split val; 0 trains without validation."
            )
        return found

    def _drawn(self, line: LabelledLine, splits: Sequence[str]) -> str:
        """The split that the place of a line falls in."""
        person = line.fields.get("pid")
        key = f"pid {person}" if person else line.fields["path"]
        digest = hashlib.blake2b(f"{self.split_seed} {key}".encode(), digest_size=8).digest()
        place = int.from_bytes(digest, "big") / 2**64
        for split in splits:
            place -= self.fractions[split]
            if place < 0:
                return split
        return "train"
