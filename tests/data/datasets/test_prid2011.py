"""PRID 2011, multi-shot version: long tracklets, random splits, and the file with the splits of Wang et al."""

import json

import pytest

from helpers.datasets import ids, loading
from helpers.video import facts, lists, names, torchreid_lists, touch
from reidlit.data.datasets.prid2011 import PRID2011
from reidlit.data.splits import drawn_order

LONG = list(range(1, 179))
SHORT = list(range(179, 201))


def lay_out(root, frames):
    """Write tracklets; `frames` is the number of frames by camera and person."""
    base = root / "prid2011" / "prid_2011" / "multi_shot"
    for (camera, pid), count in frames.items():
        for frame in range(1, count + 1):
            touch(base / camera / f"person_{pid:04d}" / f"{frame:04d}.png")
    return base


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    frames = {(camera, pid): 28 for camera in ("cam_a", "cam_b") for pid in LONG}
    frames |= {("cam_a", pid): 28 for pid in SHORT} | {("cam_b", pid): 21 for pid in SHORT}
    # Different people with equal numbers.
    frames |= {(camera, pid): 30 for camera in ("cam_a", "cam_b") for pid in (201, 385)} | {("cam_b", 749): 30}
    base = lay_out(root, frames)
    touch(base / "cam_b" / "person_0179" / "Thumbs.db")
    touch(base / "cam_b" / "person_0179" / "._0001.png")
    return root


@pytest.mark.slow
def test_random_splits_of_long_tracklets(root):
    train_sets = set()
    for split_id in (0, 9):
        splits = lists(PRID2011, root, split_id=split_id)
        train = sorted(LONG[i] for i in drawn_order(178, split_id)[:89])
        test = sorted(set(LONG) - set(train))
        assert ids(splits["train"]) == [(pid, camid) for camid in (0, 1) for pid in train]
        assert ids(splits["query"]) == [(pid, 0) for pid in test]
        assert ids(splits["gallery"]) == [(pid, 1) for pid in test]
        train_sets.add(tuple(train))
    assert len(train_sets) == 2
    assert names(splits["query"])[0] == tuple(f"{frame:04d}.png" for frame in range(1, 29))
    assert f"cam_b/person_{test[0]:04d}/" in splits["gallery"][0].path[0]
    data = PRID2011(str(root), **loading())
    assert data.split_path is None
    assert all(actual == published for _, actual, published in data.verify())


def test_split_file_is_used_and_matches_torchreid(tmp_path):
    lay_out(tmp_path, {(camera, pid): pid for camera in ("cam_a", "cam_b") for pid in (1, 2, 3, 5)})
    file = tmp_path / "prid2011" / "splits_prid2011.json"
    halves = {"train": ["person_0005", "person_0001"], "test": ["person_0002", "person_0003"]}
    file.write_text(json.dumps([halves] * 9 + [{"train": halves["test"], "test": halves["train"]}]))
    ours = lists(PRID2011, tmp_path, split_id=9)
    assert ids(ours["train"]) == [(2, 0), (3, 0), (2, 1), (3, 1)]
    assert ids(ours["query"]) == [(1, 0), (5, 0)]
    assert PRID2011(str(tmp_path), **loading()).split_path == file
    theirs = torchreid_lists("prid2011.PRID2011", tmp_path, split_id=9)
    assert {split: facts(ours[split], ordered=False) for split in ours} == {
        split: facts(theirs[split], ordered=False) for split in theirs
    }
    for text in ("{", "{}", "[[], []]", json.dumps([{"train": []}])):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"splits_prid2011\.json .*test .*split 0"):
            PRID2011(str(tmp_path), **loading()).samples("query")
    file.write_text(json.dumps([{"train": [], "test": ["person_0004"]}]))
    with pytest.raises(FileNotFoundError, match=r"cam_a.person_0004"):
        PRID2011(str(tmp_path), **loading()).samples("query")
    file.write_text(json.dumps([{"train": [], "test": ["../../person_0001"]}]))
    with pytest.raises(ValueError, match=r"'\.\./\.\./person_0001'"):
        PRID2011(str(tmp_path), **loading()).samples("query")


def test_invalid_data_raises(tmp_path):
    with pytest.raises(ValueError, match=r"data\.split_id=10 .*prid2011 .*0 to 9"):
        PRID2011(str(tmp_path), split_id=10, **loading())
    with pytest.raises(FileNotFoundError, match=r"multi_shot.cam_a"):
        PRID2011(str(tmp_path), **loading()).samples("train")
    base = lay_out(tmp_path, {(camera, pid): 28 for camera in ("cam_a", "cam_b") for pid in (1, 2)})
    with pytest.raises(ValueError, match=r"cam_a and cam_b .* 2 .*1 to 200 .*28 .*178"):
        PRID2011(str(tmp_path), **loading()).samples("train")
    for camera in ("cam_a", "cam_b"):
        (base / camera / "nobody").mkdir()
    with pytest.raises(ValueError, match="'nobody'"):
        PRID2011(str(tmp_path), **loading()).samples("train")
