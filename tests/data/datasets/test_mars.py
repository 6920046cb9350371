"""MARS: name files and tables of tracklets, on generated files."""

import numpy as np
import pytest
from scipy.io import savemat

from helpers.datasets import draw, ids, loading
from helpers.video import facts, lists, names, torchreid_lists
from reidlit.data.datasets.mars import Mars

TRAIN = [(1, 1, 3), (1, 2, 1), (3, 6, 2)]  # pid, camera, frames
TEST = [(-1, 1, 2), (0, 2, 2), (2, 1, 3), (2, 1, 2), (2, 2, 1), (4, 6, 2), (0, 5, 1), (2, 6, 2)]
QUERY = [6, 3]  # tracklets, numbered from 1; identity 4 has no other tracklet


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


@pytest.mark.parametrize("kind", [np.int32, float])  # MATLAB stores numbers as doubles
def test_splits(kind, tmp_path):
    base = lay_out(tmp_path, kind=kind)
    splits = lists(Mars, tmp_path)
    assert ids(splits["train"]) == [(1, 0), (1, 1), (3, 5)]
    assert ids(splits["query"]) == [(2, 0), (4, 5)]
    assert ids(splits["gallery"]) == [(0, 1), (2, 0), (2, 1), (0, 4), (2, 5)]  # with distractors, without junk
    assert names(splits["train"])[0] == ("0001C1T0001F001.jpg", "0001C1T0001F002.jpg", "0001C1T0001F003.jpg")
    assert splits["query"][1].path[1] == str(base / "bbox_test" / "0004" / "0004C6T0006F002.jpg")


def test_matches_torchreid(tmp_path):
    lay_out(tmp_path)
    ours, theirs = lists(Mars, tmp_path), torchreid_lists("mars.Mars", tmp_path)
    assert {split: facts(ours[split]) for split in ours} == {split: facts(theirs[split]) for split in theirs}
    assert sorted(ids(ours["gallery"])) == sorted((pid, camid) for _, pid, camid, _ in theirs["gallery"])


@pytest.mark.slow
def test_sizes_match_published_ones(tmp_path):
    query = [(pid, 1 + turn % 6, 1) for pid in range(1, 627) for turn in range(3)]
    query += [(pid, 4, 1) for pid in range(1, 103)]
    gallery = [(pid, 1 + turn % 6, 1) for pid in range(1, 622) for turn in range(15)] + [(0, 1, 1)] * 15
    rest = [(-1, 1, 1)] * (12_180 - len(query) - len(gallery))
    train = [(pid, 1 + turn % 6, 1) for pid in range(627, 1252) for turn in range(13)] + [(700, 1, 1)] * 173
    lay_out(tmp_path, train, [*rest, *query, *gallery], range(len(rest) + 1, len(rest) + len(query) + 1))
    assert all(actual.agrees(published) for _, actual, published in Mars(str(tmp_path), **loading()).verify())


def test_combineall_skips_distractors(tmp_path):
    lay_out(tmp_path)
    data = Mars(str(tmp_path), **loading(combineall=True))
    data.setup("fit")
    assert data.pids == [1, 2, 3, 4]
    assert len(data.train) == 8


@pytest.mark.slow
def test_batches_contain_clips(tmp_path):
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


def test_missing_file_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.root=.*mars.*bbox_train\.zip"):
        Mars(str(tmp_path), **loading()).setup("fit")
    base = lay_out(tmp_path)
    for name in ("query_IDX.mat", "tracks_test_info.mat", "test_name.txt"):
        content = (base / "info" / name).read_bytes()
        (base / "info" / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"{name}.*MARS-evaluation"):
            lists(Mars, tmp_path)
        (base / "info" / name).write_bytes(content)
    (base / "bbox_test").rmdir()
    with pytest.raises(FileNotFoundError, match=r"mars.bbox_test .*bbox_test\.zip"):
        lists(Mars, tmp_path)


def test_contradicting_files_raise(tmp_path):
    base = lay_out(tmp_path)
    info = base / "info"
    lay_out(tmp_path, query=[9])
    with pytest.raises(ValueError, match=r"query_IDX .*8"):
        lists(Mars, tmp_path)
    lay_out(tmp_path, train=[(1, 7, 2)])
    with pytest.raises(ValueError, match=r"tracks_train_info\.mat.*lines 1 to 2, identity 1 and camera 7"):
        lists(Mars, tmp_path)
    lay_out(tmp_path)
    listed = (info / "train_name.txt").read_text().split()
    (info / "train_name.txt").write_text("\n".join(listed[:-1]))
    with pytest.raises(ValueError, match=r"lines 5 to 6, identity 3 and camera 6 .*5 frames"):
        lists(Mars, tmp_path)
    (info / "train_name.txt").write_text("\n".join([*listed[1:], "0003C6"]))  # shifted by one line
    with pytest.raises(ValueError, match=r"lines 1 to 3, '0001C1T0001F002\.jpg' to '0001C2"):
        lists(Mars, tmp_path)
    (info / "train_name.txt").write_text("\n".join(name[1:] for name in listed))
    with pytest.raises(ValueError, match=r"'001C1T0001F001\.jpg'"):
        lists(Mars, tmp_path)
    whole = (info / "tracks_train_info.mat").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"{}"):
        (info / "tracks_train_info.mat").write_bytes(content)
        with pytest.raises(ValueError, match="track_train_info"):
            lists(Mars, tmp_path)
