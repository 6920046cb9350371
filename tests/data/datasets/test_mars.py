"""MARS's name files and tables of tracklets, on a layout made here."""

import numpy as np
import pytest
from scipy.io import savemat

from helpers.datasets import draw, ids, loading
from helpers.video import facts, lists, names, torchreid_lists
from reidlit.data.datasets.mars import Mars

TRAIN = [(1, 1, 3), (1, 2, 1), (3, 6, 2)]  # pid, camera, frames
TEST = [(-1, 1, 2), (0, 2, 2), (2, 1, 3), (2, 1, 2), (2, 2, 1), (4, 6, 2), (0, 5, 1), (2, 6, 2)]
QUERY = [6, 3]  # tracklets, from 1; nobody else is identity 4


def write(base, part, tracklets, kind):
    listed, rows = [], []
    for number, (pid, camera, count) in enumerate(tracklets, 1):
        first = len(listed) + 1
        person = "00-1" if pid < 0 else f"{pid:04d}"
        listed += [f"{person}C{camera}T{number:04d}F{frame:03d}.jpg" for frame in range(1, count + 1)]
        rows.append([first, len(listed), pid, camera])
    (base / f"bbox_{part}").mkdir(exist_ok=True)
    (base / "info" / f"{part}_name.txt").write_text("\r\n".join(listed) + "\r\n")
    savemat(base / "info" / f"tracks_{part}_info.mat", {f"track_{part}_info": np.array(rows, kind)})


def lay_out(root, train=TRAIN, test=TEST, query=QUERY, kind=np.int32):
    base = root / "mars"
    (base / "info").mkdir(parents=True, exist_ok=True)
    write(base, "train", train, kind)
    write(base, "test", test, kind)
    savemat(base / "info" / "query_IDX.mat", {"query_IDX": np.array([query], kind)})
    return base


@pytest.mark.parametrize("kind", [np.int32, float])  # MATLAB's own numbers are doubles
def test_splits_read_names_only(kind, tmp_path):
    base = lay_out(tmp_path, kind=kind)
    found = lists(Mars, tmp_path)
    assert ids(found["train"]) == [(1, 0), (1, 1), (3, 5)]
    assert ids(found["query"]) == [(2, 0), (4, 5)]
    assert ids(found["gallery"]) == [(0, 1), (2, 0), (2, 1), (0, 4), (2, 5)]  # distractors stay, junk does not
    assert names(found["train"])[0] == ("0001C1T0001F001.jpg", "0001C1T0001F002.jpg", "0001C1T0001F003.jpg")
    assert found["query"][1].path[1] == str(base / "bbox_test" / "0004" / "0004C6T0006F002.jpg")


def test_the_same_as_torchreid(tmp_path):
    lay_out(tmp_path)
    ours, theirs = lists(Mars, tmp_path), torchreid_lists("mars.Mars", tmp_path)
    assert {split: facts(ours[split]) for split in ours} == {split: facts(theirs[split]) for split in theirs}
    assert sorted(ids(ours["gallery"])) == sorted((pid, camid) for _, pid, camid, _ in theirs["gallery"])


@pytest.mark.slow
def test_sizes_are_as_published(tmp_path):
    query = [(pid, 1 + turn % 6, 1) for pid in range(1, 627) for turn in range(3)]
    query += [(pid, 4, 1) for pid in range(1, 103)]
    gallery = [(pid, 1 + turn % 6, 1) for pid in range(1, 622) for turn in range(15)] + [(0, 1, 1)] * 15
    rest = [(-1, 1, 1)] * (12_180 - len(query) - len(gallery))
    train = [(pid, 1 + turn % 6, 1) for pid in range(627, 1252) for turn in range(13)] + [(700, 1, 1)] * 173
    lay_out(tmp_path, train, [*rest, *query, *gallery], range(len(rest) + 1, len(rest) + len(query) + 1))
    assert all(have.agrees(published) for _, have, published in Mars(str(tmp_path), **loading()).verify())


def test_combineall_joins_train_and_test_without_distractors(tmp_path):
    lay_out(tmp_path)
    data = Mars(str(tmp_path), **loading(combineall=True))
    data.setup("fit")
    assert data.pids == [1, 2, 3, 4]
    assert len(data.train) == 8


@pytest.mark.slow
def test_from_frames_to_batches(tmp_path):
    base = lay_out(tmp_path)
    data = Mars(str(tmp_path), seq_len=2, **loading())
    for split in data.splits:
        for sample in data.samples(split):
            for path in sample.path:
                draw(base.parent / path)
    data.setup("fit")
    data.setup("test")
    assert next(iter(data.train_dataloader()))["image"].shape == (2, 2, 3, 32, 16)
    assert sum(len(batch["pid"]) for batch in data.test_dataloader()["mars"]) == 7


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mars is not there.*bbox_train.zip"):
        Mars(str(tmp_path), **loading()).setup("fit")
    base = lay_out(tmp_path)
    for name in ("query_IDX.mat", "tracks_test_info.mat", "test_name.txt"):
        content = (base / "info" / name).read_bytes()
        (base / "info" / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"{name} does not exist.*MARS-evaluation"):
            lists(Mars, tmp_path)
        (base / "info" / name).write_bytes(content)
    (base / "bbox_test").rmdir()
    with pytest.raises(FileNotFoundError, match=r"bbox_test does not exist.*bbox_test.zip"):
        lists(Mars, tmp_path)


def test_files_that_do_not_agree_are_named(tmp_path):
    base = lay_out(tmp_path)
    info = base / "info"
    lay_out(tmp_path, query=[9])
    with pytest.raises(ValueError, match="query_IDX must lie in 1 to 8"):
        lists(Mars, tmp_path)
    lay_out(tmp_path, train=[(1, 7, 2)])
    with pytest.raises(ValueError, match=r"tracks_train_info.mat: a tracklet of lines 1 to 2, identity 1, camera 7"):
        lists(Mars, tmp_path)
    lay_out(tmp_path)
    listed = (info / "train_name.txt").read_text().split()
    (info / "train_name.txt").write_text("\n".join(listed[:-1]))
    with pytest.raises(ValueError, match="lines 5 to 6, identity 3, camera 6 cannot be: there are 5 names"):
        lists(Mars, tmp_path)
    (info / "train_name.txt").write_text("\n".join([*listed[1:], "0003C6"]))  # each in the place of the one before
    with pytest.raises(ValueError, match=r"lines 1 to 3 of the names, '0001C1T0001F002.jpg' to '0001C2"):
        lists(Mars, tmp_path)
    (info / "train_name.txt").write_text("\n".join(name[1:] for name in listed))
    with pytest.raises(ValueError, match=r"'001C1T0001F001.jpg'.*are no tracklet"):
        lists(Mars, tmp_path)
    whole = (info / "tracks_train_info.mat").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"{}"):
        (info / "tracks_train_info.mat").write_bytes(content)
        with pytest.raises(ValueError, match=r"track_train_info cannot be read"):
            lists(Mars, tmp_path)
