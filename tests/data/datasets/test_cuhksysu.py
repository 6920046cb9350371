"""CUHK-SYSU: layout, file names and errors, on generated files."""

import pytest

from helpers.datasets import draw, ids, loading
from reidlit.data.datasets.cuhksysu import CUHKSYSU

NAMES = ["p11422_s16929_1.jpg", "p2_s10_2.jpg", "p2_s9_1.jpg"]


@pytest.fixture
def base(tmp_path):
    base = tmp_path / "cuhksysu" / "cropped_images"
    for name in NAMES:
        draw(base / name)
    (base / "Thumbs.db").write_bytes(b"stray")
    (base / "._p2_s9_1.jpg").write_bytes(b"stray")
    return base


def test_identities_have_unknown_cameras(base, tmp_path):
    data = CUHKSYSU(str(tmp_path), **loading())
    data.setup("fit")
    assert ids(data.train) == [(11422, -1), (2, -1), (2, -1)]
    assert [sample.path for sample in data.train] == [str(base / name) for name in NAMES]
    assert data.labels == {2: 0, 11422: 1}  # sorted by number, independent of the hash seed
    assert data.verify() == [("train", (2, 3, 0), (11_934, 34_574, 0))]


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize("combineall", [False, True])
def test_dataset_has_only_training_split(combineall, tmp_path):
    data = CUHKSYSU(str(tmp_path), **loading(combineall=combineall))
    data.setup("test")
    assert data.test_sets == {}
    data.setup("fit")
    assert len(data.train) == 3


@pytest.mark.usefixtures("base")
def test_identities_cannot_be_held_out_without_cameras(tmp_path):
    with pytest.raises(ValueError, match=r"val_fraction=0\.5"):
        CUHKSYSU(str(tmp_path), **loading(val_fraction=0.5)).setup("fit")


@pytest.mark.parametrize("name", ["holiday.jpg", "11422_s16929_1.jpg", "p11422.jpg"])
def test_invalid_file_name_raises(name, base, tmp_path):
    draw(base / name)
    with pytest.raises(ValueError, match=f"{name} .*CUHK-SYSU"):
        CUHKSYSU(str(tmp_path), **loading()).setup("fit")


def test_missing_folder_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="reidlit prepare data=cuhksysu"):
        CUHKSYSU(str(tmp_path), **loading()).setup("fit")
    (tmp_path / "cuhksysu").mkdir()
    with pytest.raises(FileNotFoundError, match=r"cuhksysu.cropped_images"):
        CUHKSYSU(str(tmp_path), **loading()).setup("fit")
