"""CUHK02: camera pairs, file names and errors, on generated files."""

import shutil

import pytest

from helpers.datasets import draw, ids, loading
from reidlit.data.datasets.cuhk02 import CUHK02


@pytest.fixture
def base(tmp_path):
    """Write images of persons 1 and 12 in each pair, and of person 999 in the last one."""
    base = tmp_path / "cuhk02" / "Dataset"
    for pair in range(1, 6):
        for camera in (1, 2):
            folder = base / f"P{pair}" / f"cam{camera}"
            for name in (f"001_{camera}.png", f"012_{camera}.png", *(["999_7.png"] if pair == 5 else [])):
                draw(folder / name)
            (folder / "Thumbs.db").write_bytes(b"stray")
            (folder / "._001_1.png").write_bytes(b"stray")
    return base


def test_pids_and_camids_are_unique_across_pairs(base, tmp_path):
    data = CUHK02(str(tmp_path), **loading())
    train = data.samples("train")
    expected = [
        (pair * 10_000 + person, 2 * (pair - 1) + camera)
        for pair in (1, 2, 3, 4)
        for camera in (0, 1)
        for person in (1, 12)
    ]
    assert ids(train) == expected
    assert train[-1].path == str(base / "P4" / "cam2" / "012_2.png")
    assert ids(data.samples("query")) == [(50_001, 8), (50_012, 8), (50_999, 8)]
    assert ids(data.samples("gallery")) == [(50_001, 9), (50_012, 9), (50_999, 9)]


@pytest.mark.usefixtures("base")
def test_combineall_merges_query_and_gallery(tmp_path):
    data = CUHK02(str(tmp_path), **loading(combineall=True))
    data.setup("fit")
    assert len(data.pids) == 4 * 2 + 3
    assert len(data.train) == 16 + 6


def test_published_sizes_are_consistent():
    published = CUHK02.statistics
    assert sum(published[split].images for split in published) == 4 * 1_816
    assert published["train"].identities + published["query"].identities == 1_816


@pytest.mark.parametrize("name", ["holiday.png", "012.png", "a12_1.png", "10000_1.png"])
def test_invalid_file_name_raises(name, base, tmp_path):
    draw(base / "P3" / "cam1" / name)
    with pytest.raises(ValueError, match=f"{name} .*CUHK02"):
        CUHK02(str(tmp_path), **loading()).setup("fit")


def test_missing_folder_raises(base, tmp_path):
    with pytest.raises(FileNotFoundError, match="Dataset/P1 to Dataset/P5"):
        CUHK02(str(tmp_path / "elsewhere"), **loading()).setup("fit")
    shutil.rmtree(base / "P3" / "cam2")
    with pytest.raises(FileNotFoundError, match=r"P3.cam2"):
        CUHK02(str(tmp_path), **loading()).setup("fit")
