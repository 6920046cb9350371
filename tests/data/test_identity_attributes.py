"""Attributes of identities, in MATLAB files with the structure of the original ones and in CSV files."""

import numpy as np
import pytest
from scipy.io import savemat

from reidlit.data.identity_attributes import read_identity_attributes

FIELDS = ("age", "backpack", "handbag", "downblack", "upred", "clothes", "gender")


def part(pids, seed, **changes):
    """Return a struct of (1, N) vectors, with the identities as strings in a cell array."""
    generator = np.random.default_rng(seed)
    index = np.empty((1, len(pids)), object)
    index[0] = [f"{pid:04d}" for pid in pids]
    columns = {name: generator.integers(1, 5 if name == "age" else 3, (1, len(pids))).astype(float) for name in FIELDS}
    return {**columns, "image_index": index, **changes}


def write(path, name="market_attribute", **parts):
    parts = {"test": part([1, 3, 1501], 1), "train": part([2, 7, 11, 12], 0)} | parts
    savemat(path, {name: parts})
    return parts


@pytest.mark.parametrize("name", ["market_attribute", "duke_attribute"])
def test_matlab_file(name, tmp_path):
    parts = write(tmp_path / "a.mat", name)
    names, labels = read_identity_attributes(tmp_path / "a.mat")
    ages = ["age_young", "age_teenager", "age_adult", "age_old"]
    assert names == [*ages, *FIELDS[1:]]
    assert sorted(labels) == [1, 2, 3, 7, 11, 12, 1501]
    for half in parts.values():
        for index, pid in enumerate(half["image_index"][0]):
            row = dict(zip(names, labels[int(pid)], strict=True))
            assert [row[age] for age in ages] == [half["age"][0, index] == value for value in (1, 2, 3, 4)]
            assert all(row[field] == half[field][0, index] - 1 for field in FIELDS[1:])


def test_parts_may_have_different_attributes_and_shapes(tmp_path):
    """Vectors may be columns, and an attribute missing in one part is unknown there."""
    train = {name: np.asarray(values).T for name, values in part([2, 7], 0).items() if name != "upred"}
    write(tmp_path / "a.mat", train=train)
    names, labels = read_identity_attributes(tmp_path / "a.mat")
    assert labels[2][names.index("upred")] == -1
    assert labels[1][names.index("upred")] in (0, 1)


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"backpack": np.full((1, 2), 3.0)}, "a.mat .*backpack .*2 numbers from 1 to 2"),
        ({"age": np.full((1, 2), 5.0)}, "a.mat .*age .*2 numbers from 1 to 4"),
        ({"gender": np.full((1, 2), np.nan)}, "a.mat .*gender"),
        ({"gender": np.ones((1, 3))}, "a.mat .*gender .*2 numbers"),
        ({"gender": "female"}, "a.mat .*gender"),
        ({"image_index": np.ones((1, 2))}, "a.mat .*cell array"),
        ({"image_index": np.array([["0001", "zwei"]], object)}, "a.mat .*image_index .*'zwei'"),
        ({"image_index": np.array([["0002", "0002"]], object)}, "a.mat .*identity 2"),
    ],
)
def test_invalid_content_raises(changes, pattern, tmp_path):
    write(tmp_path / "a.mat", train=part([2, 7], 0, **changes))
    with pytest.raises(ValueError, match=pattern):
        read_identity_attributes(tmp_path / "a.mat")


def test_invalid_file_raises(tmp_path):
    file = tmp_path / "a.mat"
    with pytest.raises(FileNotFoundError, match=r"a\.mat"):
        read_identity_attributes(file)
    savemat(file, {"train": np.ones(3)})
    with pytest.raises(ValueError, match=r"a\.mat .*train and test.*\['train'\]"):
        read_identity_attributes(file)
    savemat(file, {"market_attribute": {"train": 1, "test": 2}})
    with pytest.raises(ValueError, match=r"a\.mat .*image_index"):
        read_identity_attributes(file)
    write(file)
    whole = file.read_bytes()
    for length in (0, 50, 128, 200, len(whole) // 2):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.mat"):
            read_identity_attributes(file)


def test_csv_file(tmp_path):
    file = tmp_path / "people.csv"
    file.write_text("pid,hat,coat\n7,1,\n0012,0,1\n-1,,0\n", encoding="utf-8")
    names, labels = read_identity_attributes(file)
    assert names == ["hat", "coat"]
    assert labels == {7: [1, -1], 12: [0, 1], -1: [-1, 0]}
    for invalid in ("pid,hat\nanna,1", "pid,hat\n7,1\n07,0"):
        file.write_text(invalid, encoding="utf-8")
        with pytest.raises(ValueError, match=f"line {len(invalid.splitlines())}: pid="):
            read_identity_attributes(file)
