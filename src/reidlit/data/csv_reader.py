"""Reader of UTF-8 CSV files with a header, delimited by commas, semicolons or tabs."""

import csv
import io
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from reidlit.escaping import from_cell

DELIMITERS = ",;\t"


class Line(NamedTuple):
    """Line of a CSV file: its number, its location for messages, and its cells by column; missing cells are empty."""

    number: int
    location: str
    cells: dict[str, str]


def read_csv(
    file: Path,
    is_header: Callable[[Collection[str]], bool],
    lacking: str,
    *,
    lower: bool = False,
    unique: Collection[str] | None = None,
) -> tuple[list[str], list[Line]]:
    """Read a CSV file.

    Args:
        file: Path of the file.
        is_header: Function that returns True for valid column titles.
        lacking: Description of the columns that an invalid header lacks, for the message.
        lower: Whether to convert titles to lower case.
        unique: Titles that must be unique; `None` for all.

    Returns:
        The titles and the lines that are not empty. Blanks at the ends of cells are kept, and the apostrophe is removed that
        reidlit writes before a text that a spreadsheet would run as a formula.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the table is invalid; the message names the line.
    """
    text = _read_text(file)
    header = text.splitlines()[0] if text else ""
    delimiter = _delimiter(header.lower() if lower else header, is_header)
    if delimiter is None:
        raise ValueError(
            f"{file}, line 1: the header {header[:200]!r} lacks {lacking}. Separate columns by commas, semicolons or "
            "tabs."
        )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        titles = [from_cell(title.strip().lower() if lower else title.strip()) for title in next(reader)]
        if repeated := next((t for t in (titles if unique is None else unique) if titles.count(t) > 1), None):
            raise ValueError(f"{file}, line 1: duplicate column {repeated!r}. Rename or remove one.")
        filled = (cells for cells in reader if any(map(str.strip, cells)))
        lines = [_line(file, reader.line_num, titles, [from_cell(cell) for cell in cells]) for cells in filled]
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
    location = f"{file}, line {number}"
    if any(map(str.strip, cells[len(titles) :])):
        raise ValueError(
            f"{location}: {len(cells)} values in {len(titles)} columns. Quote values that contain the delimiter."
        )
    return Line(number, location, dict.fromkeys(titles, "") | dict(zip(titles, cells, strict=False)))
