from pathlib import Path

import pytest

from reidlit.data.image_files import images_in_folder
from reidlit.data.sample import Sample, unlabelled_samples
from reidlit.labels import UNKNOWN


def test_lists_sorted_images_at_any_depth(tmp_path: Path) -> None:
    for name in ("b.png", "a/2.jpg", "a/notes.txt", ".hidden.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert images_in_folder(str(tmp_path)) == [tmp_path / "a/2.jpg", tmp_path / "b.png"]


def test_expands_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "a.jpg").touch()
    assert images_in_folder("~") == [tmp_path / "a.jpg"]


def test_errors_name_the_argument(tmp_path: Path) -> None:
    (tmp_path / "file.txt").touch()
    (tmp_path / "empty").mkdir()
    for name, error in (("missing", FileNotFoundError), ("file.txt", ValueError), ("empty", ValueError)):
        with pytest.raises(error, match=rf"query=\S*{name}"):
            images_in_folder(tmp_path / name, "query")


def test_unlabelled_samples_keep_the_order() -> None:
    assert unlabelled_samples([Path("b.jpg"), "a.jpg"]) == [
        Sample("b.jpg", UNKNOWN, UNKNOWN),
        Sample("a.jpg", UNKNOWN, UNKNOWN),
    ]
