"""DukeMTMC-reID: layouts, file names and errors, on generated files."""

import pytest

from helpers.datasets import draw, ids, loading
from reidlit.data.datasets.dukemtmcreid import DukeMTMCreID

NAMES = {
    "bounding_box_train": ["0001_c2_f0046182.jpg", "0001_c1_f0044158.jpg", "0007_c8_f0077419.jpg"],
    "query": ["0005_c2_f0046985.jpg", "0005_c5_f0051341.jpg"],
    "bounding_box_test": ["0005_c2_f0046989.jpg", "0005_c5_f0051350.jpg", "4022_c8_f0057300.jpg"],
}


def lay_out(base):
    for folder, names in NAMES.items():
        for name in names:
            draw(base / folder / name)
        (base / folder / "Thumbs.db").write_bytes(b"stray")
        (base / folder / "._0001_c2_f0046182.jpg").write_bytes(b"stray")
    return base


# The outer folder looks like an image name, but labels must come from the file name alone.
@pytest.mark.parametrize("nested", ["dukemtmc-reid/DukeMTMC-reID", "dukemtmc-reid"])
def test_splits(nested, tmp_path):
    lay_out(tmp_path / "7_c3" / nested)
    data = DukeMTMCreID(str(tmp_path / "7_c3"), **loading())
    assert ids(data.samples("train")) == [(1, 0), (1, 1), (7, 7)]
    assert ids(data.samples("query")) == [(5, 1), (5, 4)]
    assert ids(data.samples("gallery")) == [(5, 1), (5, 4), (4022, 7)]
    assert data.samples("train")[0].path == str(tmp_path / "7_c3" / nested / "bounding_box_train/0001_c1_f0044158.jpg")


def test_combineall_keeps_distractors(tmp_path):
    lay_out(tmp_path / "dukemtmc-reid")
    data = DukeMTMCreID(str(tmp_path), **loading(combineall=True))
    data.setup("fit")
    assert data.pids == [1, 5, 7, 4022]
    assert len(data.train) == 8


def test_missing_dataset_raises_and_cannot_be_downloaded(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dukemtmc-reid.*2019"):
        DukeMTMCreID(str(tmp_path), **loading()).setup("fit")
    (tmp_path / "dukemtmc-reid").mkdir()
    with pytest.raises(FileNotFoundError, match="bounding_box_train"):
        DukeMTMCreID(str(tmp_path), **loading()).setup("fit")
    assert "consent" in DukeMTMCreID.usage_notice
    assert DukeMTMCreID.url is None


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("holiday.jpg", "0002_c1_f0044158"),
        ("-1_c1_f0044158.jpg", "0002_c1_f0044158"),
        ("0001_c9_f1.jpg", "camera 9"),
        ("0001_c0_f1.jpg", "camera 0"),
    ],
)
def test_invalid_file_name_raises(name, pattern, tmp_path):
    base = lay_out(tmp_path / "dukemtmc-reid")
    draw(base / "query" / name)
    with pytest.raises(ValueError, match=pattern) as error:
        DukeMTMCreID(str(tmp_path), **loading()).setup("test")
    assert name in str(error.value)
