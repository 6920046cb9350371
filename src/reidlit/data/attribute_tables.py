"""CSV tables of attributes: a key column and one column of 0 and 1 per attribute."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reidlit.data.csv_reader import read_csv
from reidlit.labels import UNKNOWN

VALUES = {"": UNKNOWN, "0": 0, "1": 1}


class LabelledLine(NamedTuple):
    """Line of a table: its location for messages, its non-attribute cells by column, and its labels."""

    location: str
    fields: dict[str, str]
    labels: list[int]


def read_attributes(
    file: Path, key: str, optional: Sequence[str] = (), attributes: Sequence[str] | None = None
) -> tuple[list[str], list[LabelledLine]]:
    """Read a table of attributes from a UTF-8 CSV file with a header, delimited by commas, semicolons or tabs.

    Args:
        file: Path of the file.
        key: Column whose values are required and unique.
        optional: Other columns that are not attributes; they may be missing or empty.
        attributes: Attribute columns, in the order to return; `None` for all remaining columns.

    Returns:
        Attribute names and lines.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the table is invalid; the message names the line.
    """
    lacking = f"the column {key} or attribute columns"
    header, lines = read_csv(file, lambda titles: key in titles and len(titles) > 1, lacking)
    names = (
        [title for title in header if title and title not in (key, *optional)]
        if attributes is None
        else list(attributes)
    )
    if not names or (missing := [name for name in names if name not in header]):
        reason = f"the columns {missing} are missing" if names else "there are no attribute columns"
        raise ValueError(f"{file}, line 1: {reason}. The columns are {', '.join(header)}.")
    seen: dict[str, int] = {}
    labeled_lines = []
    for number, location, cells in lines:
        row = {title: cell.strip() for title, cell in cells.items()}
        if not row[key]:
            raise ValueError(f"{location}: {key} is empty. Every line needs a value.")
        if row[key] in seen:
            raise ValueError(
                f"{location}: {key}={row[key]!r} is a duplicate of line {seen[row[key]]}. Remove one of them."
            )
        seen[row[key]] = number
        if invalid := next((name for name in names if row[name] not in VALUES), None):
            raise ValueError(
                f"{location}: {invalid}={row[invalid]!r} is invalid: must be 1 (yes), 0 (no) or empty (unknown). If "
                f"{invalid} is not an attribute, list the attribute columns explicitly."
            )
        fields = {name: row[name] for name in (key, *optional) if name in header}
        labeled_lines.append(LabelledLine(location, fields, [VALUES[row[name]] for name in names]))
    return names, labeled_lines
