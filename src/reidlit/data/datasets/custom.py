"""What all data of a user's own has in common."""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Unpack

from reidlit.data.datamodule import ALL_SPLITS, Loading, ReIDDataModule, Split
from reidlit.data.random_splits import TEST, Row, apply_table, draw_splits, is_decided, write_table
from reidlit.data.sample import Sample

INTEGER = re.compile(r"-?[0-9]{1,18}")  # more digits may not fit into 64 bits
SEEDS = 2**32  # the frozen generator takes no others


class OwnData(ReIDDataModule):
    """A user's own images. A subclass implements `rows`.

    Names of identities, cameras and datasets become numbers. If all identities are integers, each keeps its own; else an
    identity has its place in the sorted names of all splits. Cameras and datasets have their places, from 0. Where no camera
    is known, each image has a negative camid of its own: all images of an identity match but an image does not find itself.

    Args:
        root: the folder from which paths start.
        test_fraction: share of the identities to test on where the data brings no splits, see `draw_splits`.
        split_seed: of the draw.
        split_file: where a drawn split is kept, and read from if it is there. `None` stands for `splits/<name>.csv` or, with
            another seed than 0, for `splits/<name>_seed<split_seed>.csv`.
        loading: see `ReIDDataModule`.

    Raises:
        ValueError: if a number is out of range, or the name cannot name a file.
    """

    folder = ""
    licence = "your own data"
    paper = "none; your own data"

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
            raise ValueError(f"data.name={self.name!r} cannot name scores and files. Give another data.name.")
        if not 0 <= test_fraction <= 1:
            raise ValueError(
                f"data.test_fraction={test_fraction} must lie between 0 (train on all) and 1 (test on all)."
            )
        if not 0 <= split_seed < SEEDS:
            raise ValueError(f"data.split_seed={split_seed} must lie between 0 and {SEEDS - 1}.")
        self.test_fraction, self.split_seed, self.split_file = float(test_fraction), split_seed, split_file

    def rows(self) -> list[Row]:
        """List all images in any order, with the splits that the data brings, if any.

        Raises:
            FileNotFoundError: if the data is not there.
            ValueError: if it cannot be understood.
        """
        raise NotImplementedError

    @property
    def split_path(self) -> Path | None:
        """The file that keeps the drawn split; `None` where the data brings its own."""
        if is_decided(self._rows):
            return None
        if self.split_file is not None:
            return Path(self.split_file).expanduser()
        return Path("splits") / (f"{self.name}_seed{self.split_seed}.csv" if self.split_seed else f"{self.name}.csv")

    def prepare_data(self) -> None:
        """Keep a drawn split in `split_path`, unless it is there.

        Raises:
            FileNotFoundError: if the data is not there.
            ValueError: if no split can be drawn or written, or the one that is there is of other images or settings.
        """
        rows = self._divided
        if self.split_path is not None and not self.split_path.exists():
            write_table(self.split_path, rows)
        super().prepare_data()

    @property
    def splits(self) -> tuple[Split, ...]:  # type: ignore[override]  # here the data decides
        """Those that the data has."""
        present = {row.split for row in self._divided}
        return tuple(split for split in ALL_SPLITS if split in present)

    def samples(self, split: Split) -> list[Sample]:
        """List a split; see `ReIDDataModule.samples`. A split drawn before `prepare_data` is the same.

        Raises:
            FileNotFoundError: if the data is not there.
            ValueError: if it cannot be understood or divided.
        """
        return [sample for row, sample in zip(self._divided, self._samples, strict=True) if row.split == split]

    def listed(self, split: Split) -> list[Sample]:
        """`samples`, if there are any.

        Raises:
            FileNotFoundError: if the data is not there.
            ValueError: if the split is empty.
        """
        if not self.samples(split):
            raise ValueError(
                f"data.name={self.name}: no {split} {self.item_name} in {self.directory}. {self.how_to_obtain}"
            )
        return super().listed(split)

    @cached_property
    def _rows(self) -> list[Row]:
        """`rows`, sorted and checked."""
        rows = sorted(self.rows())
        if odd := next((row for row in rows if not row.pid or not _is_utf8(row.path)), None):
            raise ValueError(f"{odd.path!r}: the name is blank or not UTF-8. Rename it.")
        if len({row.pid for row in rows}) < 2:
            raise ValueError(
                f"{self.directory} holds {len(rows)} {self.item_name} of fewer than two identities. {self.how_to_obtain}"
            )
        roles = {row.split for row in rows}
        if ("query" in roles) != ("gallery" in roles) or (TEST in roles and "query" in roles):
            raise ValueError(
                f"{self.directory} is divided into {', '.join(sorted(roles))}. To test, there must be query and gallery, or "
                "test alone, from which query and gallery are drawn."
            )
        return rows

    @cached_property
    def _divided(self) -> list[Row]:
        """The rows, each with its split."""
        path = self.split_path
        if path is None and self.split_file is not None:
            raise ValueError(f"data.split_file={self.split_file}: the data brings splits of its own. Leave it out.")
        if path is None:
            return self._rows
        settings = f"split_seed={self.split_seed} test_fraction={self.test_fraction}"
        if path.exists():
            return apply_table(path, self._rows, settings)
        return [
            row._replace(drawn_with=settings)
            for row in draw_splits(self._rows, self.test_fraction, self.split_seed, self.item_name)
        ]

    @cached_property
    def _samples(self) -> list[Sample]:
        return as_samples(self._divided, self.directory)


def as_samples(rows: Sequence[Row], directory: Path) -> list[Sample]:
    """One sample a row, with numbers for names; see `OwnData`.

    Raises:
        ValueError: if two names are the same number.
    """
    names = _in_order((row.pid for row in rows), "identities")
    pids = {name: int(name) for name in names} if _are_integers(names) else _places(names)
    camids = _places(_in_order((row.camid for row in rows), "cameras"))
    dsetids = _places(_in_order((row.dsetid for row in rows), "datasets"))
    images = _places(sorted({row.path for row in rows}))
    return [
        Sample(
            str(directory / row.path),
            pids[row.pid],
            camids[row.camid] if row.camid else -2 - images[row.path],
            dsetids[row.dsetid],
        )
        for row in rows
    ]


def _in_order(names: Iterable[str], what: str) -> list[str]:
    """Each name once, sorted: by value if all are integers."""
    found = sorted(set(names))
    if not _are_integers(found):
        return found
    found.sort(key=int)
    if twins := next((pair for pair in pairwise(found) if int(pair[0]) == int(pair[1])), None):
        raise ValueError(f"The {what} {twins[0]!r} and {twins[1]!r} are the same number. Rename one, or both alike.")
    return found


def _are_integers(names: Iterable[str]) -> bool:
    return all(INTEGER.fullmatch(name) for name in names)


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
