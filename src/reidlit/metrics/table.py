"""Tables of figures, one row a query, for other programs."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUFFIXES = (".parquet", ".csv")


def write_table(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns to a table, whole or not at all. NaN stays NaN: it is no missing value.

    Args:
        path: A .parquet or a .csv file in a folder that exists; an older file is replaced.
        columns: (N,) arrays of numbers, booleans or strings by their names, or (N, k) arrays, which become a column of
            lists in Parquet and the columns `name_1` to `name_k` in CSV.

    Raises:
        ValueError: Another suffix, no column, columns that do not fit together, or two of one name in CSV.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"path={path} must end in {' or '.join(SUFFIXES)}")
    _check(columns)
    part = path.with_name(f"{path.name}.part")
    try:
        if path.suffix == ".csv":
            _write_csv(part, columns)
        else:
            _write_parquet(part, columns)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _check(columns: Mapping[str, NDArray[Any]]) -> None:
    if not columns:
        raise ValueError("columns is empty; give at least one column")
    for name, column in columns.items():
        if column.ndim not in (1, 2) or column.dtype.kind not in "biufU":
            raise ValueError(
                f"column {name!r} must be (N,) or (N, k) numbers, booleans or strings, got shape {column.shape} of "
                f"{column.dtype}"
            )
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns must be of one length, got {lengths}")


def _write_parquet(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    import pyarrow as pa  # here, because it is slow to import and few runs write a table
    from pyarrow import parquet

    def convert(column: NDArray[Any]) -> Any:
        if column.ndim == 1:
            return pa.array(column)
        starts = pa.array(np.arange(len(column) + 1) * column.shape[1], pa.int32())
        return pa.ListArray.from_arrays(starts, pa.array(column.ravel()))

    parquet.write_table(pa.table({name: convert(column) for name, column in columns.items()}), path)


def _write_csv(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    flat: list[tuple[str, NDArray[Any]]] = []
    for name, column in columns.items():
        if column.ndim == 1:
            flat.append((name, column))
        else:
            flat.extend((f"{name}_{k}", values) for k, values in enumerate(column.T, start=1))
    names = [name for name, _ in flat]
    if len(set(names)) < len(names):
        raise ValueError(f"columns would give CSV two columns of one name, in {names}; rename one")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(zip(*(values.tolist() for _, values in flat), strict=True))
