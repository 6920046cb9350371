"""DukeMTMC-VideoReID: layouts, both formats of file names, and errors."""

import pytest

from helpers.datasets import ids, loading
from helpers.video import facts, lists, names, torchreid_lists, touch
from reidlit.data.datasets.dukemtmcvidreid import DukeMTMCVidReID

OLD, NEW = "{:04d}C{}F{:04d}X{}.jpg", "{:04d}_C{}_F{:04d}_X{}.jpg"
TRACKLETS = [  # split, pid, tracklet, camera, frames
    ("train", 1, 2, 6, 2),
    ("train", 1, 10, 1, 1),
    ("train", 7, 1, 8, 3),
    ("query", 5, 3, 2, 2),
    ("gallery", 5, 4, 3, 2),
    ("gallery", 5, 3, 2, 1),
    ("gallery", 4022, 1, 4, 1),
]


def lay_out(base, form):
    for split, pid, tracklet, camera, count in TRACKLETS:
        folder = base / split / f"{pid:04d}" / f"{tracklet:04d}"
        for frame in range(count, 0, -1):
            touch(folder / form.format(pid, camera, frame, 30823 - frame))
        touch(folder / "Thumbs.db")
        touch(folder / ("._" + form.format(pid, camera, 1, 1)))
    return base


# The outer folder looks like a frame name, but labels must come from the file name alone.
@pytest.mark.parametrize("nested", ["dukemtmc-vidreid/DukeMTMC-VideoReID", "dukemtmc-vidreid"])
@pytest.mark.parametrize("form", [OLD, NEW])
def test_splits(nested, form, tmp_path):
    base = lay_out(tmp_path / "0009C3F1X1" / nested, form)
    splits = lists(DukeMTMCVidReID, tmp_path / "0009C3F1X1")
    assert ids(splits["train"]) == [(1, 5), (1, 0), (7, 7)]
    assert ids(splits["query"]) == [(5, 1)]
    assert ids(splits["gallery"]) == [(5, 1), (5, 2), (4022, 3)]
    assert names(splits["train"])[2] == tuple(form.format(7, 8, frame, 30823 - frame) for frame in (1, 2, 3))
    assert splits["query"][0].path[1] == str(base / "query/0005/0003" / form.format(5, 2, 2, 30821))


@pytest.mark.parametrize("form", [OLD, NEW])
def test_matches_torchreid(form, tmp_path):
    lay_out(tmp_path / "dukemtmc-vidreid" / "DukeMTMC-VideoReID", form)
    ours = lists(DukeMTMCVidReID, tmp_path)
    theirs = torchreid_lists("dukemtmcvidreid.DukeMTMCVidReID", tmp_path)
    assert {split: facts(ours[split]) for split in ours} == {split: facts(theirs[split]) for split in theirs}
    assert sorted(ids(ours["gallery"])) == sorted((pid, camid) for _, pid, camid, _ in theirs["gallery"])


def test_long_tracklet_is_in_temporal_order(tmp_path):
    folder = tmp_path / "dukemtmc-vidreid/query/0001/0001"
    for frame in (10_000, 9_999, 2):
        touch(folder / OLD.format(1, 1, frame, 5))
    (sample,) = DukeMTMCVidReID(str(tmp_path), **loading()).samples("query")
    assert names([sample]) == [tuple(OLD.format(1, 1, frame, 5) for frame in (2, 9_999, 10_000))]


def test_combineall_keeps_distractors(tmp_path):
    lay_out(tmp_path / "dukemtmc-vidreid", NEW)
    data = DukeMTMCVidReID(str(tmp_path), **loading(combineall=True))
    data.setup("fit")
    assert (data.pids, len(data.train)) == ([1, 5, 7, 4022], 7)


def test_missing_dataset_raises_and_cannot_be_downloaded(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dukemtmc-vidreid.*2019"):
        DukeMTMCVidReID(str(tmp_path), **loading()).setup("fit")
    (tmp_path / "dukemtmc-vidreid").mkdir()
    with pytest.raises(FileNotFoundError, match=r"dukemtmc-vidreid.train"):
        DukeMTMCVidReID(str(tmp_path), **loading()).setup("fit")
    assert "consent" in DukeMTMCVidReID.usage_notice
    assert DukeMTMCVidReID.url is None


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("holiday.jpg", "holiday.jpg .*identity 5"),
        ("0006C2F0003X1.jpg", "0006C2F0003X1.jpg .*identity 5"),
        ("0005_C2F0003X1.jpg", "0005_C2F0003X1.jpg .*identity 5"),
        ("0005C9F0003X1.jpg", "0005C9F0003X1.jpg .*identity 5"),
        ("0005C2F0002X7.jpg", "0005C2F0002X7.jpg .*frame 2"),
        ("0005C3F0003X1.jpg", "0005.0003 .*2 cameras"),
    ],
)
def test_invalid_frame_raises(name, pattern, tmp_path):
    base = lay_out(tmp_path / "dukemtmc-vidreid", OLD)
    touch(base / "query/0005/0003" / name)
    with pytest.raises(ValueError, match=pattern):
        DukeMTMCVidReID(str(tmp_path), **loading()).setup("test")


def test_invalid_folder_raises(tmp_path):
    base = lay_out(tmp_path / "dukemtmc-vidreid", OLD)
    empty = base / "query/0005/0009"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"0009 .*0 cameras"):
        lists(DukeMTMCVidReID, tmp_path)
    empty.rename(base / "query/people")
    with pytest.raises(ValueError, match=r"query.people"):
        lists(DukeMTMCVidReID, tmp_path)
