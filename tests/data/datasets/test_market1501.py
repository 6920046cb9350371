"""Market-1501: layouts, file names and errors, on generated files."""

import numpy as np
import pytest
from PIL import Image

from helpers.datasets import loading
from reidlit.data.datasets.market1501 import Market1501

NAMES = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0002_c2s1_000451_01.jpg", "0007_c3s3_077419_03.jpg"],
    "query": ["0001_c1s1_001051_00.jpg", "0003_c6s1_001051_00.jpg"],
    "bounding_box_test": [
        "-1_c1s1_000401_03.jpg",
        "0000_c1s1_000151_01.jpg",
        "0001_c2s1_000301_00.jpg",
        "0003_c5s1_000301_00.jpg",
    ],
}


def lay_out(base, names=NAMES):
    for folder, files in names.items():
        (base / folder).mkdir(parents=True)
        for name in files:
            Image.fromarray(np.full((128, 64, 3), 99, np.uint8)).save(base / folder / name)
        (base / folder / "Thumbs.db").write_bytes(b"stray")
        (base / folder / "._0002_c1s1_000451_03.jpg").write_bytes(b"stray")
    return base


@pytest.mark.parametrize("nested", ["market1501/Market-1501-v15.09.15", "market1501"])
def test_splits(nested, tmp_path):
    lay_out(tmp_path / nested)
    data = Market1501(str(tmp_path), **loading())
    train, query, gallery = (data.samples(split) for split in ("train", "query", "gallery"))
    assert [(s.pid, s.camid) for s in train] == [(2, 0), (2, 1), (7, 2)]
    assert [(s.pid, s.camid) for s in query] == [(1, 0), (3, 5)]
    assert [(s.pid, s.camid) for s in gallery] == [(0, 0), (1, 1), (3, 4)]  # junk -1 skipped, background 0 kept


def test_folder_names_do_not_affect_labels(tmp_path):
    lay_out(tmp_path / "exp-7_c3" / "market1501")
    data = Market1501(str(tmp_path / "exp-7_c3"), **loading())
    assert {s.pid for s in data.samples("train")} == {2, 7}


def test_distractors_are_added_to_gallery(tmp_path):
    base = lay_out(tmp_path / "market1501")
    data = Market1501(str(tmp_path), market1501_500k=True, **loading())
    with pytest.raises(FileNotFoundError, match=r"market1501.images"):
        data.samples("gallery")
    (base / "images").mkdir()
    Image.new("RGB", (64, 128)).save(base / "images" / "000001.jpg")
    assert len(data.samples("gallery")) == 4
    assert data.samples("gallery")[-1].pid == 0
    assert len(data.samples("query")) == 2


def test_labels_and_batches(tmp_path):
    lay_out(tmp_path / "market1501")
    data = Market1501(str(tmp_path), **loading())
    data.setup("fit")
    assert data.pids == [2, 7]
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 3, 32, 16)
    assert str(batch["image"].dtype) == "torch.uint8"
    assert set(batch["pid"].tolist()) <= {0, 1}
    data.setup("test")
    (loader,) = data.test_dataloader().values()
    (first, second) = list(loader)
    assert first["query"].tolist() == [True, True, False, False]
    assert first["pid"].tolist() + second["pid"].tolist() == [1, 3, 0, 1, 3]
    assert first["index"].tolist() + second["index"].tolist() == [0, 1, 2, 3, 4]


def test_verify_counts(tmp_path):
    lay_out(tmp_path / "market1501")
    sizes = {split: actual for split, actual, _ in Market1501(str(tmp_path), **loading()).verify()}
    assert sizes["gallery"] == (3, 3, 3)


def test_missing_dataset_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="reidlit prepare data=market1501"):
        Market1501(str(tmp_path), **loading()).setup("fit")


def test_missing_folder_raises(tmp_path):
    (tmp_path / "market1501").mkdir()
    with pytest.raises(FileNotFoundError, match="bounding_box_train"):
        Market1501(str(tmp_path), **loading()).setup("fit")


def test_empty_folder_raises(tmp_path):
    lay_out(tmp_path / "market1501", dict.fromkeys(NAMES, ()))
    with pytest.raises(ValueError, match=r"market1501.*train"):
        Market1501(str(tmp_path), **loading()).setup("fit")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("holiday.jpg", "0002_c1s1_000451_03"), ("0002_c9s1_1.jpg", "camera 9"), ("1502_c1s1.jpg", "identity 1502")],
)
def test_invalid_file_name_raises(name, pattern, tmp_path):
    base = lay_out(tmp_path / "market1501")
    Image.new("RGB", (64, 128)).save(base / "query" / name)
    with pytest.raises(ValueError, match=pattern) as error:
        Market1501(str(tmp_path), **loading()).setup("test")
    assert name in str(error.value)


@pytest.mark.parametrize("option", ["batch_size", "test_batch_size", "num_workers", "val_fraction"])
def test_option_out_of_range_raises(option, tmp_path):
    with pytest.raises(ValueError, match=f"data.{option}=-1"):
        Market1501(str(tmp_path), **loading(**{option: -1}))


def test_corrupt_image_in_worker_raises_with_its_path(tmp_path):
    base = lay_out(tmp_path / "market1501")
    image = base / "bounding_box_train" / "0002_c1s1_000451_03.jpg"
    image.write_bytes(image.read_bytes()[:200])
    data = Market1501(str(tmp_path), **loading(num_workers=1, batch_size=3))
    data.setup("fit")
    with pytest.raises(ValueError, match="0002_c1s1_000451_03"):
        list(data.train_dataloader())
