"""CUHK01: file names, random splits and both directions."""

import zipfile

import pytest

from helpers.datasets import draw, ids, loading
from reidlit.data.archive import unpack
from reidlit.data.datasets.cuhk01 import CUHK01


def lay_out(root, people):
    base = root / "cuhk01" / "campus"
    base.mkdir(parents=True)
    image = draw(root / "image.png")
    for pid in range(1, people + 1):
        for number in range(1, 5):
            (base / f"{pid:04d}{number:03d}.png").hardlink_to(image)
    (base / "Thumbs.db").write_bytes(b"stray")
    (base / "._0001001.png").write_bytes(b"stray")
    return base


def splits(root, split_id):
    data = CUHK01(str(root), split_id=split_id, **loading())
    return tuple(data.samples(split) for split in data.splits)


def test_odd_split_swaps_query_and_gallery(tmp_path):
    base = lay_out(tmp_path, 6)
    train, query, gallery = splits(tmp_path, 0)
    # drawn_order(6, 0) starts with 5, 2, 1, so identities 6, 3 and 2 are for training.
    assert ids(train) == [(pid, camid) for pid in (2, 3, 6) for camid in (0, 0, 1, 1)]
    assert ids(query) == [(1, 0), (1, 0), (4, 0), (4, 0), (5, 0), (5, 0)]
    assert ids(gallery) == [(1, 1), (1, 1), (4, 1), (4, 1), (5, 1), (5, 1)]
    assert [s.path for s in gallery[2:4]] == [str(base / "0004003.png"), str(base / "0004004.png")]
    assert splits(tmp_path, 1) == (train, gallery, query)


def test_splits_have_disjoint_identities(tmp_path):
    lay_out(tmp_path, 7)
    halves = set()
    for split_id in range(20):
        train, query, gallery = ({s.pid for s in listed} for listed in splits(tmp_path, split_id))
        assert query == gallery == set(range(1, 8)) - train
        assert len(train) == 3
        halves.add(frozenset(train))
    assert len(halves) > 5


def test_sizes_match_published_ones(tmp_path):
    lay_out(tmp_path, 971)
    assert all(actual == published for _, actual, published in CUHK01(str(tmp_path), 19, **loading()).verify())


def test_packed_archive_raises_until_it_is_unpacked(tmp_path):
    data = CUHK01(str(tmp_path), **loading())
    archive = data.directory / "CUHK01.zip"
    data.directory.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        for pid in (1, 2):
            for number in range(1, 5):
                file.write(draw(tmp_path / "image.png"), f"campus/{pid:04d}{number:03d}.png")
    with pytest.raises(FileNotFoundError, match=rf"reidlit prepare data=cuhk01 archive={archive}"):
        data.setup("fit")
    unpack(archive, data.directory)
    data.setup("fit")
    assert len(data.train) == 4


def test_combineall_merges_images_by_identity(tmp_path):
    lay_out(tmp_path, 6)
    data = CUHK01(str(tmp_path), **loading(combineall=True))
    data.setup("fit")
    assert data.pids == [1, 2, 3, 4, 5, 6]
    assert len(data.train) == 24


@pytest.mark.parametrize("name", ["holiday.png", "0001005.png", "0001000.png"])
def test_invalid_file_name_raises(name, tmp_path):
    draw(lay_out(tmp_path, 2) / name)
    with pytest.raises(ValueError, match=name):
        splits(tmp_path, 0)


def test_missing_folder_or_split_raises(tmp_path):
    with pytest.raises(ValueError, match=r"data\.split_id=-1 .*cuhk01 .*0 to 19"):
        splits(tmp_path, -1)
    with pytest.raises(FileNotFoundError, match=r"cuhk01.campus"):
        splits(tmp_path, 0)
