"""MSMT17: both versions, lists and errors, on generated files."""

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
    assert ids(data.samples("query")) == [(1041, 2), (4100, 0)]  # test pids start after the training pids
    assert ids(data.samples("gallery")) == [(1041, 3), (4100, 11)]
    assert data.samples("train")[0].path == str(base / train / "0000/0000_000_01_0303morning_0015_0.jpg")
    assert data.samples("gallery")[0].path == str(base / test / "0000/0000_001_04_0303morning_0008_1.jpg")
    (record,) = caplog.records  # once, not for each split
    assert str(base) in record.getMessage()


def test_include_val_adds_validation_images(tmp_path):
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


def test_version_is_selected_or_detected(tmp_path):
    with pytest.raises(ValueError, match=r"data\.version=v3 .*v1, v2"):
        MSMT17(str(tmp_path), version="v3", **loading())
    (tmp_path / "msmt17").mkdir()
    with pytest.raises(FileNotFoundError, match="MSMT17_V1 or MSMT17_V2"):
        MSMT17(str(tmp_path), **loading()).setup("fit")
    lay_out(tmp_path, "MSMT17_V2")
    with pytest.raises(FileNotFoundError, match=r"MSMT17_V1.*data.version"):
        MSMT17(str(tmp_path), version="v1", **loading()).setup("fit")
    lay_out(tmp_path, "MSMT17_V1")
    first_paths = {
        version: MSMT17(str(tmp_path), version=version, **loading()).samples("train")[0].path
        for version in (None, "v1", "v2")
    }
    assert "MSMT17_V1/train" in first_paths[None]
    assert "MSMT17_V1/train" in first_paths["v1"]
    assert "MSMT17_V2/mask_train_v2" in first_paths["v2"]


def test_images_are_read_from_listed_paths(tmp_path):
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
    ("split", "line", "pattern"),
    [
        ("train", "0000/0000_000_01_0303morning_0015_0.jpg", "'0000/0000_000_01_0303morning_0015_0.jpg'"),
        ("train", "0000/0000_000_01_0303morning_0015_0.jpg -1", "0015_0.jpg -1'"),
        ("train", "\x00\x7f", r"'\\x00\\x7f'"),
        ("query", "../0000_000_01_x.jpg 0", "outside"),
        ("query", "0000\\..\\..\\0000_000_01_x.jpg 0", "outside"),
        ("query", "/etc/0000_000_01_x.jpg 0", "outside"),
        ("query", "C:/0000_000_01_x.jpg 0", "outside"),
        ("gallery", "a_b_01_c/0000.jpg 0", "no camera"),  # the camera must be in the file name, not the folder name
        ("gallery", "0000/0000_000_16_x.jpg 0", "camera 16"),
        ("gallery", "0000/0000_000_00_x.jpg 0", "camera 0"),
        ("train", "0000/0000_000_01_x.jpg 1041", "identity 1041"),
        ("query", "0000/0000_000_01_x.jpg 3060", "identity 3060"),
    ],
)
def test_invalid_line_raises(split, line, pattern, tmp_path):
    base = lay_out(tmp_path, lists=LISTS | {split: [LISTS[split][0], "", line]})
    with pytest.raises(ValueError, match=pattern) as error:
        MSMT17(str(tmp_path), **loading()).samples(split)
    assert f"{base / f'list_{split}.txt'}, line 3" in str(error.value)


def test_missing_or_empty_list_raises(tmp_path):
    base = lay_out(tmp_path, lists=LISTS | {"query": []})
    with pytest.raises(ValueError, match=r"msmt17.*query"):
        MSMT17(str(tmp_path), **loading()).setup("test")
    (base / "list_val.txt").unlink()
    assert len(MSMT17(str(tmp_path), **loading()).samples("train")) == 2
    with pytest.raises(FileNotFoundError, match=r"list_val\.txt"):
        MSMT17(str(tmp_path), include_val=True, **loading()).samples("train")
