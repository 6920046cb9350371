"""Table of the results of each query."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.data.sample import Sample, first_frame, readable
from reidlit.data.splits import EvalSet
from reidlit.foreign_files import reading
from reidlit.metrics import ReIDMetric, Scores
from reidlit.tables import read_parquet, write_table

Columns = dict[str, NDArray[Any]]
# Columns that are read, with the allowed kinds of their dtype.
REQUIRED = {"dataset": "OU", "ap": "f", "first_match": "iu", "num_matches": "iu"}
OPTIONAL = {"path": "OU", "pid": "iu", "camid": "iu", "nearest": "iu", "distance": "f"}
LISTS = ("nearest", "distance")  # columns with a list in each row


def write_per_query(file: Path, metrics: Mapping[str, ReIDMetric], sets: Mapping[str, EvalSet]) -> None:
    """Write one row for each query of each test set.

    The column `nearest` contains 0-based gallery indices in the order of the dataset.

    Args:
        file: Path with the suffix .parquet or .csv.
        metrics: Evaluated metrics by dataset; if empty, no file is written.
        sets: Query and gallery samples by dataset.
    """
    tables = [_rows(name, metric, sets[name]) for name, metric in metrics.items()]
    if tables:
        common = [column for column in tables[0] if all(column in table for table in tables)]
        write_table(file, {column: np.concatenate([table[column] for table in tables]) for column in common})


def read_per_query(file: Path) -> dict[str, Columns]:
    """Read the rows of queries with a match, by dataset; return an empty dict if the file does not exist.

    Raises:
        ValueError: If the file is damaged, or a column is missing or has another type than `write_per_query` writes.
    """
    if not file.is_file():
        return {}
    with reading(file, "Repeat the test, or delete the file."):
        table = read_parquet(file)
        columns: Columns = {
            name: np.array(table[name].to_pylist() if name in LISTS else table[name].to_numpy())
            for name in table.column_names
            if name in (*REQUIRED, *OPTIONAL)
        }
        for name in (*REQUIRED, *(name for name in OPTIONAL if name in columns)):
            ndim, kinds = 1 + (name in LISTS), (REQUIRED | OPTIONAL)[name]
            if columns[name].ndim != ndim or columns[name].dtype.kind not in kinds:
                raise ValueError(f"the column {name} has the type {table[name].type}")
        if any(name in columns and columns[name].shape != columns["nearest"].shape for name in LISTS):
            raise ValueError("nearest and distance differ in shape")
        valid = columns["num_matches"] > 0
        if not np.isfinite(columns["ap"][valid]).all() or (columns["first_match"][valid] < 1).any():
            raise ValueError("a query with matches has no average precision or no rank")
        rows = {str(name): valid & (columns["dataset"] == name) for name in np.unique(columns["dataset"])}
        return {name: {key: values[selected] for key, values in columns.items()} for name, selected in rows.items()}


def _rows(name: str, metric: ReIDMetric, sets: EvalSet) -> Columns:
    scores: Scores = metric.compute()
    columns = dict(scores.per_query())
    query, gallery = metric.collected
    if len(columns["ap"]) == len(query.index):  # not if queries were averaged
        samples: list[Sample] = [sets.query[index] for index in query.index.tolist()]
        columns = {
            "path": np.array([readable(first_frame(sample.path)) for sample in samples]),
            "pid": np.array([sample.pid for sample in samples]),
            "camid": np.array([sample.camid for sample in samples]),
        } | columns
    if "nearest" in columns:
        offset = len(sets.query)  # sample indices of the gallery follow those of the queries
        nearest = columns["nearest"]
        columns["nearest"] = np.where(nearest < 0, -1, gallery.index.numpy()[nearest.clip(min=0)] - offset)
    return {"dataset": np.full(len(columns["ap"]), name)} | columns
