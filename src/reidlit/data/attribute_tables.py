"""Tables of attributes: a column that says of what, and a column of 0 and 1 for each attribute."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reidlit.data.csv_reader import read_csv
from reidlit.labels import UNKNOWN

VALUES = {"": UNKNOWN, "0": 0, "1": 1}


class LabelledLine(NamedTuple):
    """A line of a table: its place for messages, its columns that are no attributes by name, and its labels."""

    place: str
    fields: dict[str, str]
    labels: list[int]


def read_attributes(
    file: Path, key: str, known: Sequence[str] = (), wanted: Sequence[str] | None = None
) -> tuple[list[str], list[LabelledLine]]:
    """Read a CSV file with a header, in UTF-8, with commas, semicolons or tabs.

    Args:
        file: the file.
        key: the column that is filled in on every line, with other values on each.
        known: further columns that are no attributes; they may be missing, and blank.
        wanted: the columns that are attributes, in that order; `None` for all others.

    Returns:
        The attributes, and the lines.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a table; the line is named.
    """
    lacking = f"the column {key}, or attributes beside it"
    header, lines = read_csv(file, lambda titles: key in titles and len(titles) > 1, lacking)
    names = [title for title in header if title and title not in (key, *known)] if wanted is None else list(wanted)
    if not names or (missing := [name for name in names if name not in header]):
        what = f"lacks {missing}" if names else "lists no attribute"
        raise ValueError(f"{file}, line 1: {what}; its columns are {', '.join(header)}.")
    seen: dict[str, int] = {}
    labelled = []
    for number, place, cells in lines:
        row = {title: cell.strip() for title, cell in cells.items()}
        if not row[key]:
            raise ValueError(f"{place}: {key} is empty. Fill it in on every line.")
        if row[key] in seen:
            raise ValueError(f"{place}: {row[key]!r} is on line {seen[row[key]]} already.")
        seen[row[key]] = number
        if wrong := next((name for name in names if row[name] not in VALUES), None):
            raise ValueError(
                f"{place}: {wrong}={row[wrong]!r} must be 1 for yes, 0 for no, or empty where it is not known. Name the "
                "columns that are attributes if others are none."
            )
        fields = {name: row[name] for name in (key, *known) if name in header}
        labelled.append(LabelledLine(place, fields, [VALUES[row[name]] for name in names]))
    return names, labelled
