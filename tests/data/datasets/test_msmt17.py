"""MSMT17's two versions, its lists and their mistakes, on files made here."""

import logging

import pytest

from helpers.datasets import draw, ids, loading
from reidlit.data.datasets.msmt17 import MSMT17

LISTS = {
    "train": ["0001/0001_001_15_0303noon_0015_0.jpg 1", "0000/0000_000_01_0303morning_0015_0.jpg 0"],
    "val": ["0000/0000_004_02_0303morning_0020_0.jpg 0"],
    "query": ["0000/0000_000_03_0303morning_0008_1.jpg 0", "3059/3059_000_01_0303morning_0008_1.jpg 3059"],
    "gallery": ["0000/0000_001_04_0303morning_0008_1.jpg 0", "3059/3059_009_12_0303morning_0008_1.jpg 3059"],
}
FOLDERS = {"MSMT17_V1": ("train", "test"), "MSMT17_V2": ("mask_train_v2", "mask_test_v2")}


def lay_out(root, version="MSMT17_V1", lists=LISTS):
    base = root / "msmt17" / version
    base.mkdir(parents=True)
    for name, lines in lists.items():
        (base / f"list_{name}.txt").write_text("\n".join([*lines, ""]))
    return base


@pytest.mark.parametrize("version", FOLDERS)
def test_splits(version, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    base = lay_out(tmp_path / "a_b_09_c", version)
    train, test = FOLDERS[version]
    data = MSMT17(str(tmp_path / "a_b_09_c"), **loading())
    assert ids(data.samples("train")) == [(0, 0), (1, 14)]
    assert ids(data.samples("query")) == [(1041, 2), (4100, 0)]  # test identities go on after those of training
    assert ids(data.samples("gallery")) == [(1041, 3), (4100, 11)]
    assert data.samples("train")[0].path == str(base / train / "0000/0000_000_01_0303morning_0015_0.jpg")
    assert data.samples("gallery")[0].path == str(base / test / "0000/0000_001_04_0303morning_0008_1.jpg")
    assert [record.getMessage() for record in caplog.records] == [f"msmt17: {base} is used"]  # once, not a split


def test_val_joins_the_training_images_on_request(tmp_path):
    lay_out(tmp_path)
    with_val = MSMT17(str(tmp_path), include_val=True, **loading())
    assert ids(with_val.samples("train")) == [(0, 0), (0, 1), (1, 14)]
    assert len(with_val.samples("query")) == 2
    everything = MSMT17(str(tmp_path), **loading(combineall=True))
    everything.setup("fit")
    assert everything.pids == [0, 1, 1041, 4100]
    assert len(everything.train) == 7
    assert [data.published()["train"] for data in (MSMT17(str(tmp_path), **loading()), with_val, everything)] == [
        (1041, 30_248, 15),
        (1041, 32_621, 15),
        (1041, 32_621, 15),
    ]
    assert with_val.published()["gallery"] == (3060, 82_161, 15)


def test_version(tmp_path):
    with pytest.raises(ValueError, match=r"data.version=v3 must be one of v1, v2"):
        MSMT17(str(tmp_path), version="v3", **loading())
    (tmp_path / "msmt17").mkdir()
    with pytest.raises(FileNotFoundError, match="neither MSMT17_V1 nor MSMT17_V2"):
        MSMT17(str(tmp_path), **loading()).setup("fit")
    lay_out(tmp_path, "MSMT17_V2")
    with pytest.raises(FileNotFoundError, match="no MSMT17_V1"):
        MSMT17(str(tmp_path), version="v1", **loading()).setup("fit")
    lay_out(tmp_path, "MSMT17_V1")
    found = {
        version: MSMT17(str(tmp_path), version=version, **loading()).samples("train")[0].path
        for version in (None, "v1", "v2")
    }
    assert "MSMT17_V1/train" in found[None]
    assert "MSMT17_V1/train" in found["v1"]
    assert "MSMT17_V2/mask_train_v2" in found["v2"]


def test_images_are_read_where_the_lists_say(tmp_path):
    base = lay_out(tmp_path)
    for folder, names in (("train", ["train", "val"]), ("test", ["query", "gallery"])):
        for line in (line for name in names for line in LISTS[name]):
            draw(base / folder / line.split()[0])
    data = MSMT17(str(tmp_path), **loading())
    data.setup("test")
    (loader,) = data.test_dataloader().values()
    (batch,) = list(loader)
    assert batch["pid"].tolist() == [1041, 4100, 1041, 4100]
    assert batch["image"].shape == (4, 3, 32, 16)


@pytest.mark.parametrize(
    ("split", "line", "words"),
    [
        ("train", "0000/0000_000_01_0303morning_0015_0.jpg", "not a path and an identity"),
        ("train", "0000/0000_000_01_0303morning_0015_0.jpg -1", "not a path and an identity"),
        ("train", "\x00\x7f", "not a path and an identity"),
        ("query", "../0000_000_01_x.jpg 0", "leads outside"),
        ("query", "0000\\..\\..\\0000_000_01_x.jpg 0", "leads outside"),
        ("query", "/etc/0000_000_01_x.jpg 0", "leads outside"),
        ("query", "C:/0000_000_01_x.jpg 0", "leads outside"),
        ("gallery", "a_b_01_c/0000.jpg 0", "no camera"),  # the folder's name is not the file's
        ("gallery", "0000/0000_000_16_x.jpg 0", "camera 16"),
        ("gallery", "0000/0000_000_00_x.jpg 0", "camera 0"),
        ("train", "0000/0000_000_01_x.jpg 1041", "identity 1041"),
        ("query", "0000/0000_000_01_x.jpg 3060", "identity 3060"),
    ],
)
def test_a_line_that_does_not_parse_is_named(split, line, words, tmp_path):
    base = lay_out(tmp_path, lists=LISTS | {split: [LISTS[split][0], "", line]})
    with pytest.raises(ValueError, match=words) as caught:
        MSMT17(str(tmp_path), **loading()).samples(split)
    assert f"{base / f'list_{split}.txt'}, line 3" in str(caught.value)


def test_missing_and_empty_lists(tmp_path):
    base = lay_out(tmp_path, lists=LISTS | {"query": []})
    with pytest.raises(ValueError, match="no query images"):
        MSMT17(str(tmp_path), **loading()).setup("test")
    (base / "list_val.txt").unlink()
    assert len(MSMT17(str(tmp_path), **loading()).samples("train")) == 2
    with pytest.raises(FileNotFoundError, match=r"list_val\.txt"):
        MSMT17(str(tmp_path), include_val=True, **loading()).samples("train")
