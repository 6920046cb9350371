"""VIPeR: image pairs, random splits and both directions."""

import pytest

from helpers.datasets import draw, ids, loading
from reidlit.data.datasets.viper import VIPeR

NUMBERS = (0, 1, 2, 5, 8, 13)  # with gaps, as in the original


def lay_out(root, numbers=NUMBERS):
    base = root / "viper" / "VIPeR"
    image = draw(root / "image.bmp")
    for camera, angle in (("cam_a", 45), ("cam_b", 90)):
        (base / camera).mkdir(parents=True)
        for number in numbers:
            (base / camera / f"{number:03d}_{angle:02d}.bmp").hardlink_to(image)
        (base / camera / "Thumbs.db").write_bytes(b"stray")
        (base / camera / "._001_45.bmp").write_bytes(b"stray")
    return base


def splits(root, split_id):
    data = VIPeR(str(root), split_id=split_id, **loading())
    return tuple(data.samples(split) for split in data.splits)


def test_odd_split_swaps_query_and_gallery(tmp_path):
    base = lay_out(tmp_path)
    train, query, gallery = splits(tmp_path, 0)
    # drawn_order(6, 0) starts with 5, 2, 1, so the sixth, third and second identity are for training.
    assert ids(train) == [(1, 0), (2, 0), (13, 0), (1, 1), (2, 1), (13, 1)]
    assert ids(query) == [(0, 0), (5, 0), (8, 0)]
    assert ids(gallery) == [(0, 1), (5, 1), (8, 1)]
    assert query[1].path == str(base / "cam_a" / "005_45.bmp")
    assert gallery[1].path == str(base / "cam_b" / "005_90.bmp")
    assert splits(tmp_path, 1) == (train, gallery, query)


def test_splits_have_disjoint_identities(tmp_path):
    lay_out(tmp_path)
    halves = set()
    for split_id in range(20):
        train, query, gallery = ({s.pid for s in listed} for listed in splits(tmp_path, split_id))
        assert query == gallery == set(NUMBERS) - train
        assert len(train) == 3
        halves.add(frozenset(train))
    assert len(halves) > 5


def test_sizes_match_published_ones(tmp_path):
    lay_out(tmp_path, range(0, 3 * 632, 3)[:632])
    for split_id in (0, 19):
        assert all(actual == published for _, actual, published in VIPeR(str(tmp_path), split_id, **loading()).verify())


def test_combineall_merges_images_by_identity(tmp_path):
    lay_out(tmp_path)
    data = VIPeR(str(tmp_path), **loading(combineall=True))
    data.setup("fit")
    assert data.pids == sorted(NUMBERS)
    assert len(data.train) == 12


def test_incomplete_pair_raises(tmp_path):
    base = lay_out(tmp_path)
    (base / "cam_b" / "013_90.bmp").unlink()
    with pytest.raises(ValueError, match=r"013_45\.bmp .*cam_a .*6 .*cam_b 5"):
        splits(tmp_path, 0)
    (base / "cam_a" / "002_45.bmp").unlink()
    with pytest.raises(ValueError, match=r"005_45\.bmp and .*002_90\.bmp .*5 and 2"):
        splits(tmp_path, 0)
    (base / "cam_a" / "holiday.bmp").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holiday\.bmp .*VIPeR"):
        splits(tmp_path, 0)


def test_missing_folder_or_split_raises(tmp_path):
    with pytest.raises(ValueError, match=r"data\.split_id=20 .*viper .*0 to 19"):
        splits(tmp_path, 20)
    (tmp_path / "viper" / "VIPeR" / "cam_a").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"VIPeR.cam_b"):
        splits(tmp_path, 0)
