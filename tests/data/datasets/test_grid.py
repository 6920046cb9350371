"""GRID: file names, distractors and the partitions of the authors."""

import numpy as np
import pytest
from scipy.io import savemat

from helpers.datasets import draw, ids, loading
from reidlit.data.datasets.grid import GRID

TRAIN = [[1 + split_id % 4, 5] for split_id in range(10)]  # among identities 1 to 6
REST = "_25004_107_32_106_221.jpeg"


def write_partitions(base, field="personIdx", train=TRAIN):
    """Write the splits in the format of the authors: a cell array of structs, next to features."""
    cells = np.empty((1, 10), object)
    for split_id, people in enumerate(train):
        cells[0, split_id] = {"probeImIdx": np.array([[2, 4]]), "galleryImIdx": np.array([[1, 3]]), field: [people]}
    savemat(base / "features_and_partitions.mat", {"ftrset": np.zeros((3, 4)), "trainIdxAll": cells})


def lay_out(root):
    base = root / "grid" / "underground_reid"
    for pid in range(1, 7):
        draw(base / "probe" / f"{pid:04d}_1{REST}")
        draw(base / "gallery" / f"{pid:04d}_{pid + 2}{REST}")
    for camera in (5, 6, 7):
        draw(base / "gallery" / f"0000_{camera}{REST}")
    for folder in ("probe", "gallery"):
        (base / folder / "Thumbs.db").write_bytes(b"stray")
        (base / folder / f"._0001_1{REST}").write_bytes(b"stray")
    write_partitions(base)
    return base


def splits(root, split_id):
    data = GRID(str(root), split_id=split_id, **loading())
    return tuple(data.samples(split) for split in data.splits)


def test_splits_follow_partitions(tmp_path):
    base = lay_out(tmp_path)
    train, query, gallery = splits(tmp_path, 1)
    assert ids(train) == [(2, 0), (5, 0), (2, 3), (5, 6)]
    assert ids(query) == [(1, 0), (3, 0), (4, 0), (6, 0)]
    assert ids(gallery) == [(0, 4), (0, 5), (0, 6), (1, 2), (3, 4), (4, 5), (6, 7)]
    assert train[2].path == str(base / "gallery" / f"0002_4{REST}")
    for split_id in range(10):
        train, query, gallery = ({s.pid for s in listed} for listed in splits(tmp_path, split_id))
        assert train == set(TRAIN[split_id])
        assert query == gallery - {0} == set(range(1, 7)) - train


def test_combineall_skips_distractors(tmp_path):
    lay_out(tmp_path)
    data = GRID(str(tmp_path), **loading(combineall=True))
    data.setup("fit")
    assert data.pids == [1, 2, 3, 4, 5, 6]
    assert len(data.train) == 12


@pytest.mark.parametrize("name", ["holiday.jpeg", f"0251_1{REST}", f"0001_9{REST}", f"0001_0{REST}"])
def test_invalid_file_name_raises(name, tmp_path):
    draw(lay_out(tmp_path) / "gallery" / name)
    with pytest.raises(ValueError, match=name):
        splits(tmp_path, 0)


def test_invalid_partitions_raise(tmp_path):
    base = lay_out(tmp_path)
    write_partitions(base, train=[[3, 77]] * 10)
    with pytest.raises(ValueError, match=r"probe .*identity 77.*features_and_partitions\.mat"):
        splits(tmp_path, 0)
    write_partitions(base, field="other")
    with pytest.raises(ValueError, match=r"features_and_partitions\.mat .*trainIdxAll\{3\}\.personIdx"):
        splits(tmp_path, 2)
    file = base / "features_and_partitions.mat"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"features_and_partitions\.mat"):
        splits(tmp_path, 0)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"features_and_partitions\.mat"):
        splits(tmp_path, 0)
    with pytest.raises(ValueError, match=r"data\.split_id=10 .*grid .*0 to 9"):
        splits(tmp_path, 10)
