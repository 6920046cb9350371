"""CSV files as people write them: with commas, semicolons or tabs, and with a header that tells which."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

DELIMITERS = ",;\t"


def read_lines(file: Path, is_header: Callable[[Sequence[str]], bool], lacking: str) -> Iterator[tuple[int, list[str]]]:
    """Read a CSV file in UTF-8.

    Args:
        file: the file.
        is_header: whether these column titles, without blanks and quotes around them, are those of such a file.
        lacking: what to say that the first line lacks if they are not.

    Yields:
        the number of each line's end, from 1, and its cells as they stand there, the header first.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such file.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} does not exist. Give the path of a CSV file.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 (byte {error.start}). Save it as CSV in UTF-8.") from None
    first = text.splitlines()[0] if text else ""
    titles = {mark: [title.strip(' "') for title in first.split(mark)] for mark in DELIMITERS}
    delimiter = next((mark for mark, found in titles.items() if is_header(found)), None)
    if delimiter is None:
        raise ValueError(
            f"{file}, line 1: {first[:200]!r} lacks {lacking}. Columns are separated by commas, semicolons or tabs."
        )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: {error}.") from None
