"""Attribute labels per identity, for joint training on identities and attributes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reidlit.data.attribute_tables import read_attributes
from reidlit.data.matlab import read_mat, strings
from reidlit.foreign_files import expanded
from reidlit.labels import UNKNOWN

PARTS = ("train", "test")
INDEX = "image_index"  # field with the identities
# Fields with more than two values, with the names of the values 1, 2, ... Each value becomes an attribute.
LEVELS = {"age": ("young", "teenager", "adult", "old")}


class IdentityAttributes(NamedTuple):
    """Attribute names, and labels in that order by identity: 1 for yes, 0 for no, -1 for unknown."""

    names: list[str]
    labels: Mapping[int, list[int]]


def read_identity_attributes(path: str | Path) -> IdentityAttributes:
    """Read the attributes of identities from a MATLAB or CSV file.

    A `.mat` file has the format of Lin et al.: a struct with the fields `train` and `test`, each of which contains one
    field per attribute and the identities in `image_index`. The value 1 means no and 2 means yes; the file's
    description defines each attribute (for example, gender 2 is female). Each of the four groups of `age` becomes an
    attribute.

    Any other file is read as CSV with a column `pid` (identity number) and one column per attribute with 1 for yes, 0
    for no, or empty for unknown.

    Source: Lin et al., "Improving Person Re-identification by Attribute and Identity Learning", Pattern Recognition
    2019.

    Args:
        path: Path of the file; a leading `~` is expanded.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the content is invalid.
    """
    file = expanded(path)
    return _from_mat(file) if file.suffix.lower() == ".mat" else _from_csv(file)


def _from_csv(file: Path) -> IdentityAttributes:
    names, lines = read_attributes(file, "pid")
    labels: dict[int, list[int]] = {}
    for line in lines:
        text = line.fields["pid"]
        if not text.removeprefix("-").isdecimal() or int(text) in labels:
            raise ValueError(f"{line.location}: pid={text!r} is invalid: must be an integer that occurs only once.")
        labels[int(text)] = line.labels
    return IdentityAttributes(names, labels)


def _from_mat(file: Path) -> IdentityAttributes:
    content = read_mat(file)
    structs = [value for value in content.values() if isinstance(value, dict) and set(PARTS) <= set(value)]
    if len(structs) != 1:
        raise ValueError(
            f"{file} must contain exactly one struct with the fields train and test. Its variables are {[*content]}."
        )
    try:
        tables = [_read_part(structs[0][part]) for part in PARTS]
    except ValueError as error:
        raise ValueError(
            f"{file} is not a valid attribute file: {error}. Download it again from its authors."
        ) from error
    names = list(dict.fromkeys(name for columns, _ in tables for name in columns))
    labels: dict[int, list[int]] = {}
    for columns, pids in tables:
        for index, pid in enumerate(pids):
            row = [columns[name][index] if name in columns else UNKNOWN for name in names]
            if labels.setdefault(pid, row) != row:
                raise ValueError(
                    f"{file} contains conflicting attributes of identity {pid}. Download it again from its authors."
                )
    return IdentityAttributes(names, labels)


def _read_part(part: Any) -> tuple[dict[str, list[int]], list[int]]:
    """Return the label columns by attribute, and the identities."""
    if not isinstance(part, dict) or INDEX not in part or len(part) < 2:
        raise ValueError(f"train and test must be structs of {INDEX} and attributes")
    pids = strings(part[INDEX])
    if other := next((pid for pid in pids if not pid.isdecimal()), None):
        raise ValueError(f"{INDEX} contains {other!r}, which is not an identity number")
    fields = {name: values for name, values in part.items() if name != INDEX}
    columns = {key: rows for name, values in fields.items() for key, rows in _columns(name, values, len(pids)).items()}
    return columns, [int(pid) for pid in pids]


def _columns(name: str, values: Any, count: int) -> dict[str, list[int]]:
    """Return the label columns of the attributes that a field describes."""
    numbers = np.asarray(values).ravel()
    highest = len(LEVELS.get(name, (0, 1)))
    if numbers.dtype.kind not in "iuf" or len(numbers) != count or not np.isin(numbers, range(1, highest + 1)).all():
        raise ValueError(f"{name} must contain {count} numbers from 1 to {highest}")
    if name in LEVELS:
        return {
            f"{name}_{level}": (numbers == value).astype(int).tolist() for value, level in enumerate(LEVELS[name], 1)
        }
    return {name: (numbers == highest).astype(int).tolist()}
