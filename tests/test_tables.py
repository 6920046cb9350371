import csv
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from reidlit.data.csv_reader import read_csv
from reidlit.tables import read_parquet, write_table


def csv_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture
def columns():
    return {
        "index": np.arange(3),
        "ap": np.array([0.1, np.nan, np.pi * 1e-9]),
        "distance": np.array([[0.5, 1.5], [2.5, np.nan], [1 / 3, 4.5]], np.float32),
        "hit": np.array([True, False, True]),
        "path": np.array(["a.jpg", 'b, "c".jpg', "ö.jpg"]),
    }


def test_parquet_round_trip(columns, tmp_path):
    write_table(tmp_path / "queries.parquet", columns)
    table = parquet.read_table(tmp_path / "queries.parquet")
    assert table.column_names == list(columns)
    assert table.schema.types == [pa.int64(), pa.float64(), pa.list_(pa.float32()), pa.bool_(), pa.string()]
    assert [column.null_count for column in table.columns] == [0] * 5  # NaN is not a missing value
    for name, expected in columns.items():
        np.testing.assert_array_equal(np.array(table[name].to_pylist(), expected.dtype), expected)


def test_csv_round_trip(columns, tmp_path):
    write_table(tmp_path / "queries.csv", columns)
    header, *rows = csv_rows(tmp_path / "queries.csv")
    assert header == ["index", "ap", "distance_1", "distance_2", "hit", "path"]
    index, ap, first, second, hit, path = map(list, zip(*rows, strict=True))
    assert index == ["0", "1", "2"]
    np.testing.assert_array_equal(np.array(ap, float), columns["ap"])
    np.testing.assert_array_equal(np.array([first, second], np.float32).T, columns["distance"])
    assert hit == ["True", "False", "True"]
    assert path == columns["path"].tolist()


@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda a: a[:, ::-1][:, ::-1], lambda a: np.repeat(a, 2, 0)[::2]]
)
def test_memory_layout_does_not_matter(layout, tmp_path):
    matrix = np.arange(12).reshape(4, 3)
    write_table(tmp_path / "a.parquet", {"matrix": layout(matrix), "column": matrix[:, 1]})
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table["matrix"].to_pylist() == matrix.tolist()
    assert table["column"].to_pylist() == matrix[:, 1].tolist()


@pytest.mark.parametrize("width", [0, 1])
def test_list_columns_of_width_0_and_1(width, tmp_path):
    columns = {"index": np.arange(2), "near": np.zeros((2, width))}
    write_table(tmp_path / "a.parquet", columns)
    assert parquet.read_table(tmp_path / "a.parquet")["near"].to_pylist() == [[0.0] * width] * 2
    write_table(tmp_path / "a.csv", columns)
    header, *rows = csv_rows(tmp_path / "a.csv")
    assert header == ["index", "near_1"][: 1 + width]
    assert [list(map(float, row)) for row in rows] == [[0.0, 0.0][: 1 + width], [1.0, 0.0][: 1 + width]]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_table_without_rows(suffix, tmp_path):
    write_table(tmp_path / f"a.{suffix}", {"ap": np.array([]), "near": np.zeros((0, 2))})
    if suffix == "csv":
        assert csv_rows(tmp_path / "a.csv") == [["ap", "near_1", "near_2"]]
    else:
        assert parquet.read_table(tmp_path / "a.parquet").num_rows == 0


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_existing_table_is_replaced_without_leftovers(suffix, columns, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_text("old")
    write_table(path, columns)
    assert path.read_bytes()[:3] != b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_failed_write_keeps_existing_table(suffix, columns, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_text("old")
    columns["path"] = np.array(["a", "b", "\ud800"])  # invalid in UTF-8; CSV fails after writing the previous rows
    with pytest.raises(UnicodeError):
        write_table(path, columns)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_keeps_existing_table(columns, tmp_path, monkeypatch):
    def write_half(_, path):
        path.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(parquet, "write_table", write_half)
    path = tmp_path / "a.parquet"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        write_table(path, columns)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.txt", "a", "a.CSV", "parquet"])
def test_unsupported_suffix_raises(name, columns, tmp_path):
    with pytest.raises(ValueError, match=rf"path=.*{name} .*\.parquet.*\.csv"):
        write_table(tmp_path / name, columns)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "columns"),
        ({"a": np.zeros(2), "b": np.zeros((3, 2))}, r"columns.*\{'a': 2, 'b': 3\}"),
        ({"a": np.zeros((2, 2, 2))}, r"columns\['a'\].*\(2, 2, 2\)"),
        ({"a": np.array(1.0)}, r"columns\['a'\].*\(\)"),
        ({"a": np.array([None, 1])}, r"columns\['a'\].*object"),
    ],
)
def test_invalid_columns_raise(suffix, columns, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_table(tmp_path / f"a.{suffix}", columns)
    assert list(tmp_path.iterdir()) == []


def test_duplicate_csv_column_names_raise(tmp_path):
    columns = {"near": np.zeros((2, 2)), "near_1": np.zeros(2)}
    with pytest.raises(ValueError, match=r"columns.*near_1"):
        write_table(tmp_path / "a.csv", columns)
    assert list(tmp_path.iterdir()) == []
    write_table(tmp_path / "a.parquet", columns)


def test_missing_folder_raises(columns, tmp_path):
    for suffix in ("parquet", "csv"):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            write_table(tmp_path / "nowhere" / f"a.{suffix}", columns)


def test_pyarrow_is_imported_on_first_use():
    code = "import sys, reidlit.tables; print('pyarrow' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"


def test_csv_cells_are_no_formulas(tmp_path):
    names = ["=1+1", "+a", "-a", "@a", "'=a", "a", "-1"]
    write_table(tmp_path / "a.csv", {"=name": np.array(names), "value": np.array([-1.5, 2, 3, 4, 5, 6, 7])})
    (header, _), *rows = csv_rows(tmp_path / "a.csv")
    assert header == "'=name"
    assert [name for name, _ in rows] == ["'=1+1", "'+a", "'-a", "'@a", "''=a", "a", "-1"]
    assert float(rows[0][1]) == -1.5
    _, lines = read_csv(tmp_path / "a.csv", lambda titles: "'=name" in titles, "the column =name")
    assert [line.cells["=name"] for line in lines] == names


@pytest.mark.parametrize("change", ["claims rows", "repeats a long text"])
def test_parquet_that_expands_is_refused(change, tmp_path):
    file = tmp_path / "a.parquet"
    if change == "claims rows":
        column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2**26, np.int8)), pa.array([0.5]))
    else:
        column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2**14, np.int8)), pa.array(["x" * 2**20]))
    parquet.write_table(pa.table({"ap": column}), file)
    assert file.stat().st_size < 2**22
    with pytest.raises(ValueError, match="GB"):
        read_parquet(file)
