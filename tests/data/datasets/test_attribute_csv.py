"""A user's table of attributes: columns, splits that are drawn, and mistakes."""

from collections import Counter

import numpy as np
import pytest

from helpers.datasets import draw, loading
from reidlit.data.datasets.attribute_csv import AttributeCSV


def write(folder, text, images=()):
    for name in images:
        draw(folder / name)
    (folder / "people.csv").write_text(text, encoding="utf-8")
    return str(folder / "people.csv")


def data(file, val_fraction=0.1, **options):
    return AttributeCSV(file, **options, **loading(val_fraction=val_fraction))


def splits(dataset):
    return {sample.path.rpartition("/")[2]: split for split in dataset.splits for sample in dataset.samples(str(split))}


def table(people, shots=1, header="path,hat"):
    """So many people with so many images each."""
    names = [f"{pid}_{shot}.png" for pid in range(people) for shot in range(shots)]
    return names, "\n".join([header, *(f"{name},{number % 2}" for number, name in enumerate(names))])


def test_labels_splits_and_other_columns_are_read(tmp_path):
    text = 'hat;"path";note;coat;split\n1;"a;1.png";x;0;train\n;b.png;y;1;val\n 0 ;sub/c.png;;;test\n\n'
    file = write(tmp_path, "\ufeff" + text, ["a;1.png", "b.png", "sub/c.png"])
    dataset = data(file, attributes=["coat", "hat"])
    assert dataset.name == "people"
    assert dataset.names == ("coat", "hat")
    found = {split: dataset.labels_of(dataset.samples(split)).tolist() for split in ("train", "val", "test")}
    assert found == {"train": [[0, 1]], "val": [[1, -1]], "test": [[-1, 0]]}
    assert dataset.samples("test")[0].path == str(tmp_path / "sub/c.png")
    with pytest.raises(ValueError, match="line 2: note='x' must be 1 for yes, 0 for no, or empty"):
        data(file).listed("train")


def test_drawn_splits_are_whole_reproducible_and_stay_when_images_are_added(tmp_path):
    names, text = table(300)
    file = write(tmp_path, text, names)
    found = splits(data(file))
    counts = Counter(found.values())
    assert counts.total() == len(found) == 300
    assert abs(counts["test"] - 60) < 25
    assert abs(counts["val"] - 30) < 20
    lines = text.splitlines()
    shuffled = [lines[0], *np.random.default_rng(0).permutation(lines[1:])[:200]]
    fewer = splits(data(write(tmp_path, "\n".join(shuffled))))
    assert fewer.items() <= found.items()
    other = splits(data(file, split_seed=1))
    assert sum(found[name] != other[name] for name in fewer) > 40
    assert set(splits(data(file, val_fraction=0.0, test_fraction=0.0)).values()) == {"train"}


def test_all_images_of_a_person_are_in_one_split(tmp_path):
    names, _ = table(60, shots=3)
    rows = "\n".join(f"{name},{number % 2},{name.split('_')[0]}" for number, name in enumerate(names))
    found = splits(data(write(tmp_path, f"path,hat,pid\n{rows}", names)))
    whole = {(name.split("_")[0], split) for name, split in found.items()}
    assert len(whole) == 60
    assert {split for _, split in whole} == {"train", "val", "test"}


def test_validation_images_are_drawn_from_training_where_there_are_none(tmp_path):
    names, _ = table(100)
    rows = "\n".join(f"{name},1,{'test' if number < 20 else 'train'}" for number, name in enumerate(names))
    file = write(tmp_path, f"path,hat,split\n{rows}", names)
    counts = Counter(splits(data(file)).values())
    assert counts["test"] == 20
    assert 0 < counts["val"] < 20
    assert "val" not in splits(data(file, val_fraction=0.0)).values()
    dataset = data(file, val_fraction=0.0)
    dataset.setup("fit")
    assert dataset.val is None
    assert dataset.val_dataloader() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lacks the column path"),
        ("path\na.png", "or attributes beside it"),
        ("path,split\na.png,train", "lists no attribute"),
        ("name,hat\na.png,1", "lacks the column path"),
        ("path,hat,hat\na.png,1,0", "'hat' is there twice"),
        ("path,hat\na.png,yes", "line 2: hat='yes'"),
        ("path,hat\na.png,1,1", "line 2: 3 values in 2 columns"),
        ("path,hat\n,1", "line 2: path is empty"),
        ("path,hat\na.png,1\na.png,0", "line 3: 'a.png' is on line 2 already"),
        ("path,hat,split\na.png,1,query", "line 2: split='query' must be one of train, val, test"),
        ("path,hat,split\na.png,1,train\nb.png,1,", "line 3: split=''"),
        ("path,hat,split\na.png,1,train", "leaves a split empty"),
        ("path,hat\n", "lists no image"),
        ("path,hat\na.png,1", "none was drawn for"),
        ('path,hat\n"a.png,1', "line 2: unexpected end of data"),
    ],
)
def test_mistakes_are_named_with_their_line(text, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        data(write(tmp_path, text, ["a.png", "b.png"])).listed("train")


def test_files_and_numbers_that_are_wrong_are_named(tmp_path):
    names, text = table(40)
    file = write(tmp_path, text, names[1:])
    with pytest.raises(FileNotFoundError, match=r"1 images that do not exist, such as .*0_0\.png"):
        data(file).listed("train")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv does not exist"):
        data(str(tmp_path / "nowhere.csv")).listed("train")
    with pytest.raises(ValueError, match=r"data\.file is not given"):
        data(None)
    with pytest.raises(ValueError, match="leave something to train on"):
        data(file, test_fraction=0.95)
    with pytest.raises(ValueError, match=r"lacks \['coat'\]; its columns are path, hat"):
        data(file, attributes=["coat"]).listed("train")
    (tmp_path / "people.csv").write_bytes(b"path,hat\n\xff.png,1")
    with pytest.raises(ValueError, match="not UTF-8"):
        data(file).listed("train")
