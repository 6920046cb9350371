"""Custom attribute datasets in a CSV file: columns, random splits and errors."""

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
    """Return image names and the text of a table of `people` people with `shots` images each."""
    names = [f"{pid}_{shot}.png" for pid in range(people) for shot in range(shots)]
    return names, "\n".join([header, *(f"{name},{number % 2}" for number, name in enumerate(names))])


def test_table_contains_labels_splits_and_other_columns(tmp_path):
    text = 'hat;"path";note;coat;split\n1;"a;1.png";x;0;train\n;b.png;y;1;val\n 0 ;sub/c.png;;;test\n\n'
    file = write(tmp_path, "\ufeff" + text, ["a;1.png", "b.png", "sub/c.png"])
    dataset = data(file, attributes=["coat", "hat"])
    assert dataset.name == "people"
    assert dataset.names == ("coat", "hat")
    labels = {split: dataset.labels_of(dataset.samples(split)).tolist() for split in ("train", "val", "test")}
    assert labels == {"train": [[0, 1]], "val": [[1, -1]], "test": [[-1, 0]]}
    assert dataset.samples("test")[0].path == str(tmp_path / "sub/c.png")
    with pytest.raises(ValueError, match="line 2: note='x'"):
        data(file).listed("train")


def test_random_split_is_reproducible_and_stable_when_images_are_added(tmp_path):
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


def test_images_of_person_are_in_one_split(tmp_path):
    names, _ = table(60, shots=3)
    rows = "\n".join(f"{name},{number % 2},{name.split('_')[0]}" for number, name in enumerate(names))
    found = splits(data(write(tmp_path, f"path,hat,pid\n{rows}", names)))
    people = {(name.split("_")[0], split) for name, split in found.items()}
    assert len(people) == 60
    assert {split for _, split in people} == {"train", "val", "test"}


def test_validation_images_are_selected_from_training_if_missing(tmp_path):
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
    ("text", "pattern"),
    [
        ("", "line 1: .*path"),
        ("path\na.png", "line 1: .*'path'.*attribute"),
        ("path,split\na.png,train", "line 1: .*attribute.*path, split"),
        ("name,hat\na.png,1", "line 1: .*'name,hat'.*path"),
        ("path,hat,hat\na.png,1,0", "line 1: .*'hat'"),
        ("path,hat\na.png,yes", "line 2: hat='yes'"),
        ("path,hat\na.png,1,1", "line 2: 3 .*2 columns"),
        ("path,hat\n,1", "line 2: path"),
        ("path,hat\na.png,1\na.png,0", "line 3: path='a.png' .*line 2"),
        ("path,hat,split\na.png,1,query", "line 2: split='query' .*train, val, test"),
        ("path,hat,split\na.png,1,train\nb.png,1,", "line 3: split=''"),
        ("path,hat,split\na.png,1,train", "data.val_fraction=0.1"),
        ("path,hat\n", "people.csv "),
        ("path,hat\na.png,1", "people.csv.*data.split_seed"),
        ('path,hat\n"a.png,1', "line 2: "),
    ],
)
def test_invalid_table_raises(text, pattern, tmp_path):
    with pytest.raises(ValueError, match=pattern):
        data(write(tmp_path, text, ["a.png", "b.png"])).listed("train")


def test_missing_file_or_invalid_option_raises(tmp_path):
    names, text = table(40)
    file = write(tmp_path, text, names[1:])
    with pytest.raises(FileNotFoundError, match=r"people\.csv .*1 images .*0_0\.png"):
        data(file).listed("train")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        data(str(tmp_path / "nowhere.csv")).listed("train")
    with pytest.raises(ValueError, match=r"data\.file"):
        data(None)
    with pytest.raises(ValueError, match=r"data\.test_fraction=0\.95 and data\.val_fraction=0\.1"):
        data(file, test_fraction=0.95)
    with pytest.raises(ValueError, match=r"line 1: .*\['coat'\].*path, hat"):
        data(file, attributes=["coat"]).listed("train")
    (tmp_path / "people.csv").write_bytes(b"path,hat\n\xff.png,1")
    with pytest.raises(ValueError, match=r"people\.csv .*UTF-8"):
        data(file).listed("train")
