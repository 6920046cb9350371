"""CSV files with a header, in UTF-8, with commas, semicolons or tabs."""

import csv
import io
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

DELIMITERS = ",;\t"


class Line(NamedTuple):
    """A line of a CSV file: number, place for messages, and cells by column, empty where the line is short."""

    number: int
    place: str
    cells: dict[str, str]


def read_csv(
    file: Path,
    is_header: Callable[[Collection[str]], bool],
    lacking: str,
    *,
    lower: bool = False,
    known: Collection[str] | None = None,
) -> tuple[list[str], list[Line]]:
    """Read a CSV file.

    Args:
        file: Path of the file.
        is_header: Function that returns True for the column titles of such a file.
        lacking: What the first line lacks otherwise, for the message.
        lower: Whether titles are read in lower case.
        known: Columns whose title may occur only once; `None` for all.

    Returns:
        The titles, and the lines that are not empty. Cells are as in the file, with blanks at their ends.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not such a table; the message names the line.
    """
    text = _read_text(file)
    header = text.splitlines()[0] if text else ""
    delimiter = _delimiter(header.lower() if lower else header, is_header)
    if delimiter is None:
        raise ValueError(
            f"{file}, line 1: {header[:200]!r} lacks {lacking}. Columns are separated by commas, semicolons or tabs."
        )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        titles = [title.strip().lower() if lower else title.strip() for title in next(reader)]
        if repeated := next((t for t in (titles if known is None else known) if titles.count(t) > 1), None):
            raise ValueError(f"{file}, line 1: the column {repeated!r} is there twice.")
        lines = [_line(file, reader.line_num, titles, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: {error}.") from None
    return titles, lines


def _read_text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} does not exist. Give the path of a CSV file.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 (byte {error.start}). Save it as CSV in UTF-8.") from None


def _delimiter(header: str, is_header: Callable[[Collection[str]], bool]) -> str | None:
    splits = {delimiter: [title.strip(' "') for title in header.split(delimiter)] for delimiter in DELIMITERS}
    return next((delimiter for delimiter, titles in splits.items() if is_header(titles)), None)


def _line(file: Path, number: int, titles: Sequence[str], cells: Sequence[str]) -> Line:
    place = f"{file}, line {number}"
    if any(map(str.strip, cells[len(titles) :])):
        raise ValueError(
            f"{place}: {len(cells)} values in {len(titles)} columns. Put a value that holds the delimiter into quotes."
        )
    return Line(number, place, dict.fromkeys(titles, "") | dict(zip(titles, cells, strict=False)))
