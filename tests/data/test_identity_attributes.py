"""Attributes of identities: Market-1501's file in its true structure, and tables."""

import numpy as np
import pytest
from scipy.io import savemat

from reidlit.data.identity_attributes import read_identity_attributes

FIELDS = ("age", "backpack", "handbag", "downblack", "upred", "clothes", "gender")


def part(pids, seed, **changes):
    """A struct of (1, N) vectors and of the identities as strings in a cell array."""
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
def test_file_of_the_authors(name, tmp_path):
    parts = write(tmp_path / "a.mat", name)
    names, labels = read_identity_attributes(tmp_path / "a.mat")
    ages = ["age_young", "age_teenager", "age_adult", "age_old"]
    assert names == [*ages, *FIELDS[1:]]
    assert sorted(labels) == [1, 2, 3, 7, 11, 12, 1501]
    for half in parts.values():
        for place, pid in enumerate(half["image_index"][0]):
            row = dict(zip(names, labels[int(pid)], strict=True))
            assert [row[age] for age in ages] == [half["age"][0, place] == value for value in (1, 2, 3, 4)]
            assert all(row[field] == half[field][0, place] - 1 for field in FIELDS[1:])


def test_parts_may_have_other_attributes_and_shapes(tmp_path):
    """Columns instead of rows; an attribute that one part lacks is not known there."""
    train = {name: np.asarray(values).T for name, values in part([2, 7], 0).items() if name != "upred"}
    write(tmp_path / "a.mat", train=train)
    names, labels = read_identity_attributes(tmp_path / "a.mat")
    assert labels[2][names.index("upred")] == -1
    assert labels[1][names.index("upred")] in (0, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backpack": np.full((1, 2), 3.0)}, "backpack must be 2 numbers from 1 to 2"),
        ({"age": np.full((1, 2), 5.0)}, "age must be 2 numbers from 1 to 4"),
        ({"gender": np.full((1, 2), np.nan)}, "gender must be"),
        ({"gender": np.ones((1, 3))}, "gender must be 2 numbers"),
        ({"gender": "female"}, "gender must be"),
        ({"image_index": np.ones((1, 2))}, "cell array of strings"),
        ({"image_index": np.array([["0001", "zwei"]], object)}, "'zwei', which is no identity's number"),
        ({"image_index": np.array([["0002", "0002"]], object)}, "two sets of attributes for identity 2"),
    ],
)
def test_other_contents_are_refused_by_name(changes, words, tmp_path):
    write(tmp_path / "a.mat", train=part([2, 7], 0, **changes))
    with pytest.raises(ValueError, match=words):
        read_identity_attributes(tmp_path / "a.mat")


def test_other_files_are_refused_by_name(tmp_path):
    file = tmp_path / "a.mat"
    with pytest.raises(FileNotFoundError, match=r"a\.mat does not exist"):
        read_identity_attributes(file)
    savemat(file, {"train": np.ones(3)})
    with pytest.raises(ValueError, match=r"one struct with the fields train and test; its variables are \['train'\]"):
        read_identity_attributes(file)
    savemat(file, {"market_attribute": {"train": 1, "test": 2}})
    with pytest.raises(ValueError, match="a part is no struct of image_index"):
        read_identity_attributes(file)
    write(file)
    whole = file.read_bytes()
    for length in (0, 50, 128, 200, len(whole) // 2):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.mat"):
            read_identity_attributes(file)


def test_tables(tmp_path):
    file = tmp_path / "people.csv"
    file.write_text("pid,hat,coat\n7,1,\n0012,0,1\n-1,,0\n", encoding="utf-8")
    names, labels = read_identity_attributes(file)
    assert names == ["hat", "coat"]
    assert labels == {7: [1, -1], 12: [0, 1], -1: [-1, 0]}
    for wrong in ("pid,hat\nanna,1", "pid,hat\n7,1\n07,0"):
        file.write_text(wrong, encoding="utf-8")
        with pytest.raises(ValueError, match=f"line {len(wrong.splitlines())}: pid="):
            read_identity_attributes(file)
