"""Tables as Parquet or CSV files."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.escaping import for_cell
from reidlit.files import atomic_path
from reidlit.foreign_files import check_regular, check_unpacked_size

SUFFIXES = (".parquet", ".csv")


def write_table(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write a table atomically. NaN is preserved and not converted to a missing value.

    Args:
        path: Path with the suffix .parquet or .csv in an existing folder; an existing file is replaced.
        columns: Arrays (N,) or (N, k) of numbers, booleans or strings by column name. An array (N, k) becomes a column
            of lists in Parquet and the columns `name_1` to `name_k` in CSV.

    Raises:
        ValueError: If the suffix is not supported, there are no columns, the columns differ in length or have an
            unsupported shape or dtype, or two columns of a CSV file would have the same name.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"path={path} is invalid: must end in {' or '.join(SUFFIXES)}.")
    _check(columns)
    write = _write_csv if path.suffix == ".csv" else _write_parquet
    with atomic_path(path) as part:
        write(part, columns)


def read_parquet(path: Path) -> Any:
    """Read a Parquet file as a `pyarrow.Table`, within the memory that its size on disk allows.

    Raises:
        ValueError: If the file is not a Parquet file, is damaged, or expands to far more than its size.
    """
    import pyarrow as pa  # not at module level, because it is slow to import and rarely used
    from pyarrow import parquet

    check_regular(path)
    with parquet.ParquetFile(path) as file:
        metadata, schema = file.metadata, file.schema_arrow
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        chunks = [group.column(column) for group in groups for column in range(group.num_columns)]
        texts = [field.name for field in schema if _is_text(field.type)]
        check_unpacked_size(path, sum(8 * chunk.num_values + chunk.total_uncompressed_size for chunk in chunks))
    table = parquet.read_table(path, read_dictionary=texts)  # a repeated text is in memory only once
    for index, name in enumerate(table.column_names):
        if pa.types.is_dictionary(table[name].type):
            values = table[name].type.value_type
            lengths = (
                [len(text) for chunk in table[name].chunks for text in chunk.dictionary.to_pylist() if text]
                if _is_text(values)
                else []
            )
            check_unpacked_size(path, max(lengths, default=0) * len(table))
            table = table.set_column(index, name, table[name].cast(values))
    return table


def _is_text(data_type: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_string(data_type)
        or types.is_large_string(data_type)
        or types.is_binary(data_type)
        or types.is_large_binary(data_type)
    )


def _check(columns: Mapping[str, NDArray[Any]]) -> None:
    if not columns:
        raise ValueError("columns is empty: pass at least one column.")
    for name, column in columns.items():
        if column.ndim not in (1, 2) or column.dtype.kind not in "biufU":
            raise ValueError(
                f"columns[{name!r}] has shape {column.shape} and dtype {column.dtype}: must be (N,) or (N, k) numbers, "
                "booleans or strings."
            )
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns have different lengths {lengths}: must be equal.")


def _without_lists(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Split each (N, k) column into k columns, because CSV does not support lists."""
    flat: list[tuple[str, NDArray[Any]]] = []
    for name, column in columns.items():
        if column.ndim == 1:
            flat.append((name, column))
        else:
            flat.extend((f"{name}_{k}", values) for k, values in enumerate(column.T, start=1))
    names = [name for name, _ in flat]
    if len(set(names)) < len(names):
        raise ValueError(f"columns have duplicate CSV names {names}: rename one of them.")
    return dict(flat)


def write_rows(file: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV file atomically. Texts that a spreadsheet would run as a formula get an apostrophe; see `for_cell`."""
    with atomic_path(file) as part:
        _write_rows(part, header, rows)


def _write_rows(file: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(map(for_cell, header))
        writer.writerows(map(for_cell, row) for row in rows)


def _write_csv(file: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    flat = _without_lists(columns)
    _write_rows(file, flat, zip(*(column.tolist() for column in flat.values()), strict=True))


def _write_parquet(file: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    import pyarrow as pa  # not at module level, because it is slow to import and rarely used
    from pyarrow import parquet

    arrays = {}
    for name, column in columns.items():
        values = pa.array(column.ravel())
        if column.ndim == 1:
            arrays[name] = values
        else:
            offsets = pa.array(np.arange(len(column) + 1) * column.shape[1], pa.int32())
            arrays[name] = pa.ListArray.from_arrays(offsets, values)
    parquet.write_table(pa.table(arrays), file)
