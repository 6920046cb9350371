"""Custom image dataset listed in a CSV file."""

from pathlib import Path
from typing import Unpack

from reidlit.data.datamodule import Loading
from reidlit.data.datasets.custom import CustomData
from reidlit.data.random_splits import Row, read_table
from reidlit.foreign_files import expanded, reading


class CSVFile(CustomData):
    """Custom image dataset listed in a CSV file.

    The columns `path` and `pid` are required. The columns `camid`, `split` and `dsetid` are optional, and others are
    ignored. A split is train, query, gallery, or test, which is divided randomly into query and gallery. The file must
    be UTF-8 and delimited by commas, semicolons or tabs. Names of identities and cameras are arbitrary, and so is the
    order of lines.

    Args:
        file: Path of the CSV file; required.
        root: Folder that relative paths start from; `None` uses the folder of the file.
        test_fraction: See `CustomData`.
        split_seed: See `CustomData`.
        split_file: See `CustomData`.
        loading: Options of `ReIDDataModule`; the default name is the file name without its suffix.

    Raises:
        ValueError: If `file` is missing, or an option is invalid for `CustomData`.
    """

    how_to_obtain = (
        "List the images in data.file with the columns path and pid, and with camid and split if they are known."
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
            raise ValueError(f"data.file is missing: set it, for example data.file=people.csv. {self.how_to_obtain}")
        self.file = expanded(str(file))
        self.name = self.file.stem
        start = self.file.parent if root is None else root
        super().__init__(str(start), test_fraction, split_seed, split_file, **loading)

    def rows(self) -> list[Row]:
        """List all images; see `CustomData.rows`.

        Raises:
            FileNotFoundError: If the file or an image does not exist.
            ValueError: If the table is invalid.
        """
        rows = read_table(self.file)
        with reading(self.file, "Correct its paths."):
            missing = [row.path for row in rows if not (self.directory / row.path).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{self.file} lists {len(missing)} images that do not exist, such as {missing[0]!r}. Relative paths "
                f"start from {str(self.directory)!r}; set data.root to change this, and use / as path separator."
            )
        return [row._replace(drawn_with="") for row in rows]

    @property
    def split_path(self) -> Path | None:
        """File that stores the random split; see `CustomData.split_path`.

        Raises:
            ValueError: If it is the file that lists the images.
        """
        path = super().split_path
        if path is not None and path.resolve() == self.file.resolve():
            raise ValueError(
                f"data.split_file={path} is the same file as data.file. Choose another data.split_file or data.name."
            )
        return path
