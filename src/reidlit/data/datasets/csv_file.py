"""A user's own images in a table."""

from pathlib import Path
from typing import Unpack

from reidlit.data.datamodule import Loading
from reidlit.data.datasets.custom import OwnData
from reidlit.data.random_splits import Row, read_table


class CSVFile(OwnData):
    """Images that a CSV file lists.

    Columns: `path` and `pid`, and where they are known `camid`, `split` (train, query or gallery; or train and test, where
    query and gallery are drawn from test) and `dsetid`; others are passed over. The file is UTF-8, with commas, semicolons or
    tabs. Identities and cameras may have any names. The order of the lines does not matter.

    Args:
        file: the CSV file; it must be given.
        root: the folder from which relative paths start; `None` if they start from the file's folder.
        test_fraction: see `OwnData`.
        split_seed: see `OwnData`.
        split_file: see `OwnData`.
        loading: see `ReIDDataModule`; the name is that of the file without its suffix, if none is given.

    Raises:
        ValueError: if there is no file, or for what `OwnData` refuses.
    """

    how_to_obtain = (
        "List the images in data.file, with the columns path and pid, and camid and split where they are known."
    )

    def __init__(
        self,
        file: str | None,
        root: str | None = None,
        test_fraction: float = 0.5,
        split_seed: int = 0,
        split_file: str | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        if file is None:
            raise ValueError(f"data.file is not given: data.file=people.csv, say. {self.how_to_obtain}")
        self.file = Path(str(file)).expanduser()
        self.name = self.file.stem
        start = self.file.parent if root is None else root
        super().__init__(str(start), test_fraction, split_seed, split_file, **loading)

    def rows(self) -> list[Row]:
        """List all images; see `OwnData.rows`.

        Raises:
            FileNotFoundError: if the file or an image is not there.
            ValueError: if the file is no such table.
        """
        rows = read_table(self.file)
        missing = [row.path for row in rows if not (self.directory / row.path).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{self.file} lists {len(missing)} images that do not exist, such as {missing[0]!r}. Relative paths start "
                f"from {str(self.directory)!r}; give data.root if they start elsewhere, and write / between folders."
            )
        return [row._replace(drawn_with="") for row in rows]

    @property
    def split_path(self) -> Path | None:
        """The file that keeps the drawn split; see `OwnData.split_path`.

        Raises:
            ValueError: if that is the data's own file.
        """
        path = super().split_path
        if path is not None and path.resolve() == self.file.resolve():
            raise ValueError(f"data.split_file={path} is data.file itself. Give another data.split_file or data.name.")
        return path
