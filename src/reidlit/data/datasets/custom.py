"""Base class of custom datasets."""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Unpack

from reidlit.data.datamodule import ALL_SPLITS, Loading, ReIDDataModule, Split
from reidlit.data.random_splits import TEST, Row, apply_table, draw_splits, is_decided, write_table
from reidlit.data.sample import Sample
from reidlit.foreign_files import expanded
from reidlit.locks import locked

INTEGER = re.compile(r"-?[0-9]{1,18}")  # more digits may not fit into 64 bits
SEEDS = 2**32  # number of seeds that NumPy's RandomState accepts


class CustomData(ReIDDataModule):
    """Data module of a custom dataset.

    A subclass implements `rows`. Names of identities, cameras and datasets are converted to numbers. If all identities
    are integers, they are kept; otherwise the pid is the index in the sorted names of all splits. Camids and dsetids
    are always such indices. If cameras are unknown, each image gets a unique negative camid, so that all images of an
    identity match but an image does not match itself.

    Args:
        root: Folder that paths are relative to.
        test_fraction: Fraction of the identities to test on if the data has no splits; see `draw_splits`.
        split_seed: Random seed of the split.
        split_file: File that stores the random split and is read if it exists. `None` uses `splits/<name>.csv`, or
            `splits/<name>_seed<split_seed>.csv` if the seed is not 0.
        loading: Options of `ReIDDataModule`.

    Raises:
        ValueError: If an option is out of range or the name is not a valid file name.
    """

    folder = ""
    licence = "custom data"
    paper = "none (custom data)"

    def __init__(
        self,
        root: str,
        test_fraction: float = 0.5,
        split_seed: int = 0,
        split_file: str | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(root, **loading)
        self.name = str(self.name)
        if not self.name.strip(". ") or not self.name.isprintable() or set(self.name) & set("/\\"):
            raise ValueError(
                f"data.name={self.name!r} is invalid: it must be usable as a file name. Choose another name."
            )
        if not 0 <= test_fraction <= 1:
            raise ValueError(
                f"data.test_fraction={test_fraction} is invalid: must be between 0 (train on all) and 1 (test on all)."
            )
        if not 0 <= split_seed < SEEDS:
            raise ValueError(f"data.split_seed={split_seed} is invalid: must be between 0 and {SEEDS - 1}.")
        self.test_fraction, self.split_seed, self.split_file = float(test_fraction), split_seed, split_file
        self._is_new_split = False  # whether the random split is not stored yet

    def rows(self) -> list[Row]:
        """List all images in any order, with their predefined splits, if any.

        Raises:
            FileNotFoundError: If the data does not exist.
            ValueError: If the data is invalid.
        """
        raise NotImplementedError

    @property
    def split_path(self) -> Path | None:
        """File that stores the random split, or `None` if the data has predefined splits."""
        if is_decided(self._rows):
            return None
        if self.split_file is not None:
            return expanded(self.split_file)
        return Path("splits") / (f"{self.name}_seed{self.split_seed}.csv" if self.split_seed else f"{self.name}.csv")

    def prepare_data(self) -> None:
        """Write a random split to `split_path` unless the file exists.

        Raises:
            FileNotFoundError: If the data does not exist.
            ValueError: If no split can be drawn or written, or the existing file is for other images or settings.
        """
        rows, path = self._split_rows, self.split_path
        if path is not None and self._is_new_split:
            with locked(path, name="data.split_file"):
                if path.exists():  # another process has written it since the split was drawn
                    apply_table(path, self._rows, self._settings)
                else:
                    write_table(path, rows)
            self._is_new_split = False
        super().prepare_data()

    @property
    def splits(self) -> tuple[Split, ...]:  # type: ignore[override]  # depends on the data
        """Splits that the data contains."""
        present = {row.split for row in self._split_rows}
        return tuple(split for split in ALL_SPLITS if split in present)

    def samples(self, split: Split) -> list[Sample]:
        """List the samples of a split; see `ReIDDataModule.samples`.

        A random split is the same before and after `prepare_data`.

        Raises:
            FileNotFoundError: If the data does not exist.
            ValueError: If the data is invalid or cannot be split.
        """
        return [sample for row, sample in zip(self._split_rows, self._samples, strict=True) if row.split == split]

    def listed(self, split: Split) -> list[Sample]:
        """List the samples of a split and check that there are any.

        Raises:
            FileNotFoundError: If the data does not exist.
            ValueError: If the split is empty.
        """
        if not self.samples(split):
            raise ValueError(
                f"data.name={self.name}: {self.directory} contains no {split} {self.item_name}. {self.how_to_obtain}"
            )
        return super().listed(split)

    @cached_property
    def _rows(self) -> list[Row]:
        """Sorted and validated rows."""
        rows = sorted(self.rows())
        if invalid := next((row for row in rows if not row.pid or not _is_utf8(row.path)), None):
            raise ValueError(f"{invalid.path!r} is invalid: a name is blank or not UTF-8. Rename it.")
        if len({row.pid for row in rows}) < 2:
            raise ValueError(
                f"{self.directory} contains {len(rows)} {self.item_name} of fewer than two identities. "
                f"{self.how_to_obtain}"
            )
        roles = {row.split for row in rows}
        if ("query" in roles) != ("gallery" in roles) or (TEST in roles and "query" in roles):
            raise ValueError(
                f"{self.directory} has the splits {', '.join(sorted(roles))}. A test requires either query and "
                "gallery, or only test, which is divided into query and gallery."
            )
        return rows

    @cached_property
    def _split_rows(self) -> list[Row]:
        """Rows with their final splits."""
        path = self.split_path
        if path is None and self.split_file is not None:
            raise ValueError(
                f"data.split_file={self.split_file} is invalid: the data has predefined splits. Remove it."
            )
        if path is None:
            return self._rows
        if path.exists():
            return apply_table(path, self._rows, self._settings)
        self._is_new_split = True
        return [
            row._replace(drawn_with=self._settings)
            for row in draw_splits(self._rows, self.test_fraction, self.split_seed, self.item_name)
        ]

    @property
    def _settings(self) -> str:
        """Settings of the random split, as its file records them."""
        return f"split_seed={self.split_seed} test_fraction={self.test_fraction}"

    @cached_property
    def _samples(self) -> list[Sample]:
        return as_samples(self._split_rows, self.directory)


def as_samples(rows: Sequence[Row], directory: Path) -> list[Sample]:
    """Convert rows to samples, with numbers instead of names; see `CustomData`.

    Args:
        rows: Rows to convert.
        directory: Folder that paths are relative to.

    Raises:
        ValueError: If two names denote the same number.
    """
    names = _sorted_names((row.pid for row in rows), "identities")
    pids = {name: int(name) for name in names} if _are_integers(names) else _indices(names)
    camids = _indices(_sorted_names((row.camid for row in rows), "cameras"))
    dsetids = _indices(_sorted_names((row.dsetid for row in rows), "datasets"))
    images = _indices(sorted({row.path for row in rows}))
    return [
        Sample(
            str(directory / row.path),
            pids[row.pid],
            camids[row.camid] if row.camid else -2 - images[row.path],
            dsetids[row.dsetid],
        )
        for row in rows
    ]


def _sorted_names(names: Iterable[str], kind: str) -> list[str]:
    """Return the unique names in sorted order, by value if all are integers."""
    unique = sorted(set(names))
    if not _are_integers(unique):
        return unique
    unique.sort(key=int)
    if equal := next((pair for pair in pairwise(unique) if int(pair[0]) == int(pair[1])), None):
        raise ValueError(f"The {kind} {equal[0]!r} and {equal[1]!r} denote the same number. Rename one of them.")
    return unique


def _are_integers(names: Iterable[str]) -> bool:
    return all(INTEGER.fullmatch(name) for name in names)


def _indices(names: Sequence[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(names)}


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
