"""Attributes of identities, for training on both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reidlit.data.attribute_tables import read_attributes
from reidlit.data.matlab import read_mat, strings
from reidlit.labels import UNKNOWN

PARTS = ("train", "test")
INDEX = "image_index"  # the field that names the identities
# Fields with more than two values become an attribute each: how they are called, and their values from 1 on.
LEVELS = {"age": ("young", "teenager", "adult", "old")}


class IdentityAttributes(NamedTuple):
    """Labels by identity: 1 for yes, 0 for no, -1 where it is not known, in the order of the names."""

    names: list[str]
    labels: Mapping[int, list[int]]


def read_identity_attributes(path: str | Path) -> IdentityAttributes:
    """Read the attributes file of a re-identification dataset, or a table.

    A `.mat` file is as Lin et al. made them: a struct with the parts `train` and `test`, each with a field for each
    attribute and the identities in `image_index`. There 1 is no and 2 is yes; what each means says the file's own
    description, such as gender: 2 is female, sleeves: 2 is short. Of `age`, each of the four groups becomes an attribute.

    Source: Lin et al., "Improving Person Re-identification by Attribute and Identity Learning", Pattern Recognition 2019.

    Any other file is a CSV table with the column `pid`, the identity's number, and for each attribute one of 0 and 1,
    empty where it is not known.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be understood.
    """
    file = Path(path).expanduser()
    return _of_mat(file) if file.suffix.lower() == ".mat" else _of_csv(file)


def _of_csv(file: Path) -> IdentityAttributes:
    names, lines = read_attributes(file, "pid")
    labels: dict[int, list[int]] = {}
    for line in lines:
        text = line.fields["pid"]
        if not text.removeprefix("-").isdecimal() or int(text) in labels:
            raise ValueError(f"{line.place}: pid={text!r} must be an identity's number, and each comes once.")
        labels[int(text)] = line.labels
    return IdentityAttributes(names, labels)


def _of_mat(file: Path) -> IdentityAttributes:
    content = read_mat(file)
    found = [value for value in content.values() if isinstance(value, dict) and set(PARTS) <= set(value)]
    if len(found) != 1:
        raise ValueError(f"{file} must hold one struct with the fields train and test; its variables are {[*content]}.")
    try:
        tables = [_part(found[0][part]) for part in PARTS]
    except ValueError as error:
        raise ValueError(f"{file} is not as its authors made it: {error}. Get it again from them.") from error
    names = list(dict.fromkeys(name for columns, _ in tables for name in columns))
    labels: dict[int, list[int]] = {}
    for columns, pids in tables:
        for place, pid in enumerate(pids):
            row = [columns[name][place] if name in columns else UNKNOWN for name in names]
            if labels.setdefault(pid, row) != row:
                raise ValueError(
                    f"{file} has two sets of attributes for identity {pid}. Get it again from its authors."
                )
    return IdentityAttributes(names, labels)


def _part(part: Any) -> tuple[dict[str, list[int]], list[int]]:
    """The columns by attribute, and the identities."""
    if not isinstance(part, dict) or INDEX not in part or len(part) < 2:
        raise ValueError(f"a part is no struct of {INDEX} and attributes")
    pids = strings(part[INDEX])
    if other := next((pid for pid in pids if not pid.isdecimal()), None):
        raise ValueError(f"{INDEX} holds {other!r}, which is no identity's number")
    fields = {name: values for name, values in part.items() if name != INDEX}
    columns = {key: rows for name, values in fields.items() for key, rows in _columns(name, values, len(pids)).items()}
    return columns, [int(pid) for pid in pids]


def _columns(name: str, values: Any, count: int) -> dict[str, list[int]]:
    """The attributes that a field stands for."""
    numbers = np.asarray(values).ravel()
    highest = len(LEVELS.get(name, (0, 1)))
    if numbers.dtype.kind not in "iuf" or len(numbers) != count or not np.isin(numbers, range(1, highest + 1)).all():
        raise ValueError(f"{name} must be {count} numbers from 1 to {highest}")
    if name in LEVELS:
        return {
            f"{name}_{level}": (numbers == place).astype(int).tolist() for place, level in enumerate(LEVELS[name], 1)
        }
    return {name: (numbers == highest).astype(int).tolist()}
