"""Custom attribute dataset listed in a CSV file."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Unpack

from reidlit.data.attribute_data import ATTRIBUTE_SPLITS, AttributeDataModule, AttributeRow, AttributeTable
from reidlit.data.attribute_tables import LabelledLine, read_attributes
from reidlit.data.datamodule import Loading
from reidlit.foreign_files import expanded, reading

COLUMNS = ("split", "pid")  # optional columns that are not attributes


class AttributeCSV(AttributeDataModule):
    """Custom attribute dataset listed in a CSV file.

    The file has a column `path` and one column per attribute with 1 for yes, 0 for no, or empty for unknown. The
    columns `split` (train, val or test) and `pid` are optional. The file must be UTF-8 and delimited by commas,
    semicolons or tabs. The order of lines is arbitrary.

    Without a column `split`, each image is assigned randomly, by a hash of the seed and its path, or of the seed and
    its pid if the file has a column `pid`. An image therefore keeps its split when others are added. If the file has
    splits but no validation split, validation images are selected from the training images in the same way.

    Args:
        file: Path of the CSV file; required.
        root: Folder that relative paths start from; `None` uses the folder of the file.
        attributes: Columns that are attributes; `None` for all other columns.
        test_fraction: Approximate fraction of the images to test on.
        split_seed: Random seed of the split.
        loading: Options of `ReIDDataModule`. `val_fraction` is the approximate fraction of validation images. The
            default name is the file name without its suffix.

    Raises:
        ValueError: If `file` is missing or a fraction is out of range.
    """

    folder = ""
    brings_val: ClassVar[bool] = False
    licence = "custom data"
    paper = "none (custom data)"
    how_to_obtain = (
        "List the images in data.file with a column path and one column of 0 and 1 per attribute, and optionally a "
        "column split."
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
            raise ValueError(f"data.file is missing: set it, for example data.file=people.csv. {self.how_to_obtain}")
        self.file = expanded(str(file))
        self.name = self.file.stem
        super().__init__(str(self.file.parent if root is None else root), **loading)
        self.fractions = {"test": float(test_fraction), "val": float(loading["val_fraction"])}
        if min(self.fractions.values()) < 0 or sum(self.fractions.values()) >= 1:
            raise ValueError(
                f"data.test_fraction={test_fraction} and data.val_fraction={loading['val_fraction']} are invalid: both "
                "must be at least 0 and their sum less than 1."
            )
        self.attributes = None if attributes is None else list(attributes)
        self.split_seed = split_seed

    def table(self) -> AttributeTable:
        """List all images; see `AttributeDataModule.table`.

        Raises:
            FileNotFoundError: If the file or an image does not exist.
            ValueError: If the table is invalid or the random split is empty.
        """
        names, lines = read_attributes(self.file, "path", COLUMNS, self.attributes)
        if not lines:
            raise ValueError(f"{self.file} contains no images. {self.how_to_obtain}")
        splits = self._splits(lines)
        paths = [self.directory / line.fields["path"] for line in lines]
        with reading(self.file, "Correct its paths."):
            missing = [path for path in paths if not path.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{self.file} lists {len(missing)} images that do not exist, such as {str(missing[0])!r}. Relative "
                f"paths start from {str(self.directory)!r}; set data.root to change this."
            )
        rows = zip(paths, splits, lines, strict=True)
        return AttributeTable(
            tuple(names), sorted(AttributeRow(str(path), split, line.labels) for path, split, line in rows)
        )

    def _splits(self, lines: Sequence[LabelledLine]) -> list[str]:
        """Return the split of each line, from the file or random."""
        if "split" in lines[0].fields:
            return self._predefined_splits(lines)
        splits = [self._random_split(line, ("test", "val")) for line in lines]
        for split, fraction in {"train": 1.0, **self.fractions}.items():
            if fraction and split not in splits:
                raise ValueError(
                    f"{self.file}: none of {len(lines)} images was selected for {split}. Choose another "
                    "data.split_seed or larger fractions, or add a column split."
                )
        return splits

    def _predefined_splits(self, lines: Sequence[LabelledLine]) -> list[str]:
        """Return the splits in the file, with validation images selected from training if there are none."""
        for line in lines:
            if (split := line.fields["split"]) not in ATTRIBUTE_SPLITS:
                raise ValueError(
                    f"{line.location}: split={split!r} is invalid: must be one of {', '.join(ATTRIBUTE_SPLITS)} on "
                    "every line. Remove the column for a random split."
                )
        splits = [line.fields["split"] for line in lines]
        if "val" in splits or not self.fractions["val"] or "train" not in splits:
            return splits
        with_val = [
            self._random_split(line, ("val",)) if split == "train" else split
            for line, split in zip(lines, splits, strict=True)
        ]
        if len(Counter(with_val)) < len(Counter(splits)) + 1:
            raise ValueError(
                f"{self.file}: data.val_fraction={self.fractions['val']} leaves the training or validation split "
                "empty. Choose another fraction, 0 to train without validation, or add images of split val."
            )
        return with_val

    def _random_split(self, line: LabelledLine, splits: Sequence[str]) -> str:
        """Return one of the splits or "train", by a hash of the seed and the line's pid or path."""
        pid = line.fields.get("pid")
        key = f"pid {pid}" if pid else line.fields["path"]
        digest = hashlib.blake2b(f"{self.split_seed} {key}".encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "big") / 2**64  # uniform in [0, 1)
        for split in splits:
            number -= self.fractions[split]
            if number < 0:
                return split
        return "train"
