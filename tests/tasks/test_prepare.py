"""`reidlit prepare`."""

import io
import zipfile

from PIL import Image


def archive_of(path, names):
    content = io.BytesIO()
    Image.new("RGB", (8, 16)).save(content, "JPEG")
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(f"Market-1501-v15.09.15/{name}", content.getvalue())


def test_unpacks_counts_and_says_what_is_wrong(reidlit, tmp_path, monkeypatch):
    monkeypatch.setenv("REIDLIT_DATA", str(tmp_path / "data"))
    names = ["bounding_box_train/0002_c1s1_1.jpg", "query/0001_c1s1_1.jpg", "bounding_box_test/0001_c2s1_1.jpg"]
    archive_of(tmp_path / "market.zip", names)
    result = reidlit("prepare", "data=market1501", "archive=market.zip")
    assert (tmp_path / "data/market1501/Market-1501-v15.09.15/query/0001_c1s1_1.jpg").is_file()
    assert "research use only" in result.out
    assert result.status == 1
    assert "not as published" in result.err


def test_drawn_data(reidlit, tmp_path, monkeypatch):
    monkeypatch.setenv("REIDLIT_DATA", str(tmp_path / "data"))
    result = reidlit("prepare", "data.num_identities=4", "data.num_test=2", "data.num_cameras=2", "data.shots=2")
    assert result.status == 0, result.err
    assert len(list((tmp_path / "data").rglob("*.jpg"))) == 16


def test_missing_and_hostile_archives(reidlit, tmp_path, monkeypatch):
    monkeypatch.setenv("REIDLIT_DATA", str(tmp_path / "data"))
    assert "nowhere.zip does not exist" in reidlit("prepare", "data=market1501", "archive=nowhere.zip").err
    archive_of(tmp_path / "evil.zip", ["../../../evil.jpg"])
    result = reidlit("prepare", "data=market1501", "archive=evil.zip")
    assert "leads outside" in result.err
    assert not list(tmp_path.rglob("evil.jpg"))
    assert "archive=<file>" in reidlit("prepare", "data=market1501").err
