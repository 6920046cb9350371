"""iLIDS-VID: people, splits of the authors, and order of frames."""

import shutil
import tarfile

import numpy as np
import pytest
from scipy.io import savemat

from helpers.datasets import ids, loading
from helpers.video import facts, lists, names, torchreid_lists, touch
from reidlit.data.archive import unpack
from reidlit.data.datasets.ilidsvid import ILIDSVID

PIDS = [pid for pid in range(1, 320) if pid % 16]  # 300 numbers with gaps, as in the original
FRAMES = (317, 9, 1012)


def write_splits(base, sets):
    folder = base / "train-test people splits"
    folder.mkdir(exist_ok=True)
    savemat(folder / "train_test_splits_ilidsvid.mat", {"ls_set": np.asarray(sets, float)})
    return folder / "train_test_splits_ilidsvid.mat"


@pytest.fixture(scope="module")
def sets():
    generator = np.random.default_rng(0)
    return np.stack([generator.permutation(300) + 1 for _ in range(10)])


@pytest.fixture(scope="module")
def root(tmp_path_factory, sets):
    folder = tmp_path_factory.mktemp("root")
    base = folder / "ilids-vid"
    for camera in ("cam1", "cam2"):
        for pid in PIDS:
            for frame in FRAMES[: 1 + pid % 3]:
                person = f"person{pid:03d}"
                touch(base / "i-LIDS-VID/sequences" / camera / person / f"{camera}_{person}_{frame:05d}.png")
        touch(base / "i-LIDS-VID/sequences" / camera / "person001" / "Thumbs.db")
        touch(base / "i-LIDS-VID/sequences" / camera / "person001" / "._cam1_person001_00317.png")
    write_splits(base, sets)
    return folder


def test_splits_follow_file_of_authors(root, sets):
    for split_id in range(10):
        splits = lists(ILIDSVID, root, split_id=split_id)
        test, train = (sorted(PIDS[i - 1] for i in half) for half in (sets[split_id][:150], sets[split_id][150:]))
        assert ids(splits["train"]) == [(pid, camid) for camid in (0, 1) for pid in train]
        assert ids(splits["query"]) == [(pid, 0) for pid in test]
        assert ids(splits["gallery"]) == [(pid, 1) for pid in test]
    assert all(actual == published for _, actual, published in ILIDSVID(str(root), **loading()).verify())


def test_frames_are_in_temporal_order(root):
    splits = lists(ILIDSVID, root)
    (frames,) = (name for name in names(splits["train"] + splits["query"]) if "cam1_person002" in name[0])
    assert frames == tuple(f"cam1_person002_{frame:05d}.png" for frame in (9, 317, 1012))


def test_matches_torchreid_except_for_frame_order(root):
    theirs, ours = torchreid_lists("ilidsvid.iLIDSVID", root, split_id=7), lists(ILIDSVID, root, split_id=7)
    assert {split: facts(ours[split], ordered=False) for split in ours} == {
        split: facts(theirs[split], ordered=False) for split in theirs
    }


def test_archive_of_authors_can_be_unpacked(root, tmp_path):
    with tarfile.open(tmp_path / "iLIDS-VID.tar", "w") as archive:
        for name in ("i-LIDS-VID", "train-test people splits"):
            archive.add(root / "ilids-vid" / name, name)
    data = ILIDSVID(str(tmp_path), **loading())
    unpack(tmp_path / "iLIDS-VID.tar", data.directory)
    assert all(actual == published for _, actual, published in data.verify())


def test_invalid_data_raises(tmp_path, sets):
    with pytest.raises(ValueError, match=r"data\.split_id=10 .*ilidsvid .*0 to 9"):
        ILIDSVID(str(tmp_path), split_id=10, **loading())
    base = tmp_path / "ilids-vid"
    people = [
        base / "i-LIDS-VID/sequences" / camera / f"person{pid:03d}" for camera in ("cam1", "cam2") for pid in PIDS
    ]
    for person in people:
        person.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"splits_ilidsvid\.mat"):
        lists(ILIDSVID, tmp_path)
    file = write_splits(base, sets)
    with pytest.raises(ValueError, match=r"cam1.person\d+"):
        lists(ILIDSVID, tmp_path)
    for person in people:
        touch(person / "00001.png")
    stray = touch(people[PIDS.index(20)] / "holiday.png")
    with pytest.raises(ValueError, match=r"person020.holiday\.png"):
        lists(ILIDSVID, tmp_path)
    stray.unlink()
    for invalid in (np.where(sets == 7, 8, sets), sets[:9], sets[:, :299]):
        write_splits(base, invalid)
        with pytest.raises(ValueError, match=r"ls_set"):
            lists(ILIDSVID, tmp_path)
    file.write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"splits_ilidsvid\.mat"):
        lists(ILIDSVID, tmp_path)
    shutil.rmtree(people[0])
    with pytest.raises(ValueError, match=r"cam1 and cam2 .*299 and 300"):
        lists(ILIDSVID, tmp_path)
    touch(people[0].parent / "person 1" / "00001.png")
    shutil.rmtree(people[300])
    touch(people[300].parent / "person 1" / "00001.png")
    write_splits(base, sets)
    with pytest.raises(ValueError, match="'person 1'"):
        lists(ILIDSVID, tmp_path)
