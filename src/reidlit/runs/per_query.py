"""Results of single queries as a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidlit.data.sample import Sample, first_frame, readable
from reidlit.data.splits import EvalSet
from reidlit.metrics import ReIDMetric, Scores
from reidlit.tables import write_table

Columns = dict[str, NDArray[Any]]


def write_per_query(file: Path, metrics: Mapping[str, ReIDMetric], sets: Mapping[str, EvalSet]) -> None:
    """Write a row for each query of each test set.

    `nearest` numbers the gallery images as the dataset lists them, from 0.

    Args:
        file: A .parquet or .csv file.
        metrics: Metrics that computed the scores, by dataset; nothing is written if there are none.
        sets: The samples, by dataset.
    """
    tables = [_rows(name, metric, sets[name]) for name, metric in metrics.items()]
    if tables:
        shared = [column for column in tables[0] if all(column in table for table in tables)]
        write_table(file, {column: np.concatenate([table[column] for table in tables]) for column in shared})


def read_per_query(file: Path) -> dict[str, Columns]:
    """Read the rows of the queries that have a match, by dataset; empty if there is no such file."""
    if not file.is_file():
        return {}
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(file)
    columns: Columns = {
        name: np.array(table[name].to_pylist() if name in ("nearest", "distance") else table[name].to_numpy())
        for name in table.column_names
    }
    valid = columns["num_matches"] > 0
    rows = {str(name): valid & (columns["dataset"] == name) for name in np.unique(columns["dataset"])}
    return {name: {key: values[chosen] for key, values in columns.items()} for name, chosen in rows.items()}


def _rows(name: str, metric: ReIDMetric, sets: EvalSet) -> Columns:
    scores: Scores = metric.compute()
    columns = dict(scores.per_query())
    query, gallery = metric.collected
    if len(columns["ap"]) == len(query.index):  # with pooled queries, a row is not an image
        samples: list[Sample] = [sets.query[index] for index in query.index.tolist()]
        columns = {
            "path": np.array([readable(first_frame(sample.path)) for sample in samples]),
            "pid": np.array([sample.pid for sample in samples]),
            "camid": np.array([sample.camid for sample in samples]),
        } | columns
    if "nearest" in columns:
        first = len(sets.query)  # the gallery's samples are numbered after the queries
        listed = columns["nearest"]
        columns["nearest"] = np.where(listed < 0, -1, gallery.index.numpy()[listed.clip(min=0)] - first)
    return {"dataset": np.full(len(columns["ap"]), name)} | columns
