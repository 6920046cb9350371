"""SenseReID: layout, file names and errors, on generated files."""

import numpy as np
import pytest

import reidlit
from helpers.datasets import draw, ids, loading
from reidlit.data.datasets.sensereid import SenseReID

NAMES = {
    "test_probe": ["00003_0.jpg", "00003_1.jpg", "00010_0.jpg", "00042_0.jpg"],
    "test_gallery": ["00003_2.jpg", "00010_0.jpg", "00010_1.jpg", "00011_1.jpg"],
}


@pytest.fixture
def base(tmp_path):
    base = tmp_path / "sensereid" / "SenseReID"
    for folder, names in NAMES.items():
        for name in names:
            draw(base / folder / name)
        (base / folder / "Thumbs.db").write_bytes(b"stray")
        (base / folder / "._00003_0.jpg").write_bytes(b"stray")
    return base


def test_query_and_gallery(base, tmp_path):
    data = SenseReID(str(tmp_path), **loading())
    assert ids(data.samples("query")) == [(3, 0), (3, 1), (10, 0), (42, 0)]
    assert ids(data.samples("gallery")) == [(3, 2), (10, 0), (10, 1), (11, 1)]
    assert data.samples("query")[0].path == str(base / "test_probe" / "00003_0.jpg")
    assert [split for split, _, _ in data.verify()] == ["query", "gallery"]


@pytest.mark.usefixtures("base")
def test_query_without_gallery_identity_is_unmatched(tmp_path):
    data = SenseReID(str(tmp_path), **loading())
    data.setup("test")
    query, gallery = (np.array(ids(samples)) for samples in data.test_sets["sensereid"])
    features = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    scores = reidlit.evaluate(features[:4], features[4:], query[:, 0], gallery[:, 0], query[:, 1], gallery[:, 1])
    assert scores.num_valid == 3  # identity 42 is not in the gallery


@pytest.mark.usefixtures("base")
def test_training_requires_combineall(tmp_path):
    with pytest.raises(ValueError, match=r"data=sensereid.*data.combineall"):
        SenseReID(str(tmp_path), **loading()).setup("fit")
    data = SenseReID(str(tmp_path), **loading(combineall=True))
    data.setup("fit")
    assert data.pids == [3, 10, 11, 42]
    assert len(data.train) == 8


@pytest.mark.parametrize("name", ["holiday.jpg", "00003.jpg", "a_0.jpg"])
def test_invalid_file_name_raises(name, base, tmp_path):
    draw(base / "test_gallery" / name)
    with pytest.raises(ValueError, match=f"{name} .*SenseReID"):
        SenseReID(str(tmp_path), **loading()).setup("test")


def test_missing_folder_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="reidlit prepare data=sensereid"):
        SenseReID(str(tmp_path), **loading()).setup("test")
    draw(tmp_path / "sensereid" / "SenseReID" / "test_probe" / "00003_0.jpg")
    with pytest.raises(FileNotFoundError, match=r"SenseReID.test_gallery"):
        SenseReID(str(tmp_path), **loading()).setup("test")
