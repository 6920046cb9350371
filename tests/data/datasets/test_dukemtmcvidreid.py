"""DukeMTMC-VideoReID's layouts, both forms of names, and mistakes."""

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


# The outer folder's name looks like a frame's: ids must come from the file's name alone.
@pytest.mark.parametrize("nested", ["dukemtmc-vidreid/DukeMTMC-VideoReID", "dukemtmc-vidreid"])
@pytest.mark.parametrize("form", [OLD, NEW])
def test_splits(nested, form, tmp_path):
    base = lay_out(tmp_path / "0009C3F1X1" / nested, form)
    found = lists(DukeMTMCVidReID, tmp_path / "0009C3F1X1")
    assert ids(found["train"]) == [(1, 5), (1, 0), (7, 7)]
    assert ids(found["query"]) == [(5, 1)]
    assert ids(found["gallery"]) == [(5, 1), (5, 2), (4022, 3)]
    assert names(found["train"])[2] == tuple(form.format(7, 8, frame, 30823 - frame) for frame in (1, 2, 3))
    assert found["query"][0].path[1] == str(base / "query/0005/0003" / form.format(5, 2, 2, 30821))


@pytest.mark.parametrize("form", [OLD, NEW])
def test_the_same_as_torchreid(form, tmp_path):
    lay_out(tmp_path / "dukemtmc-vidreid" / "DukeMTMC-VideoReID", form)
    ours = lists(DukeMTMCVidReID, tmp_path)
    theirs = torchreid_lists("dukemtmcvidreid.DukeMTMCVidReID", tmp_path)
    assert {split: facts(ours[split]) for split in ours} == {split: facts(theirs[split]) for split in theirs}
    assert sorted(ids(ours["gallery"])) == sorted((pid, camid) for _, pid, camid, _ in theirs["gallery"])


def test_long_tracklets_are_in_temporal_order(tmp_path):
    folder = tmp_path / "dukemtmc-vidreid/query/0001/0001"
    for frame in (10_000, 9_999, 2):
        touch(folder / OLD.format(1, 1, frame, 5))
    (sample,) = DukeMTMCVidReID(str(tmp_path), **loading()).samples("query")
    assert names([sample]) == [tuple(OLD.format(1, 1, frame, 5) for frame in (2, 9_999, 10_000))]


def test_combineall_keeps_the_distractors(tmp_path):
    lay_out(tmp_path / "dukemtmc-vidreid", NEW)
    data = DukeMTMCVidReID(str(tmp_path), **loading(combineall=True))
    data.setup("fit")
    assert (data.pids, len(data.train)) == ([1, 5, 7, 4022], 7)


def test_missing_data_say_that_they_are_no_longer_given(tmp_path):
    with pytest.raises(FileNotFoundError, match="withdrew them in 2019"):
        DukeMTMCVidReID(str(tmp_path), **loading()).setup("fit")
    (tmp_path / "dukemtmc-vidreid").mkdir()
    with pytest.raises(FileNotFoundError, match="train does not exist"):
        DukeMTMCVidReID(str(tmp_path), **loading()).setup("fit")
    assert "without their consent" in DukeMTMCVidReID.usage_notice
    assert DukeMTMCVidReID.url is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("holiday.jpg", "is not named as frames of identity 5"),
        ("0006C2F0003X1.jpg", "is not named as frames of identity 5"),
        ("0005_C2F0003X1.jpg", "is not named as"),
        ("0005C9F0003X1.jpg", "is not named as"),
        ("0005C2F0002X7.jpg", "are both frame 2"),
        ("0005C3F0003X1.jpg", "holds frames of 2 cameras"),
    ],
)
def test_frames_that_do_not_belong_are_named(name, words, tmp_path):
    base = lay_out(tmp_path / "dukemtmc-vidreid", OLD)
    path = touch(base / "query/0005/0003" / name)
    with pytest.raises(ValueError, match=words) as caught:
        DukeMTMCVidReID(str(tmp_path), **loading()).setup("test")
    assert (name if "cameras" not in words else str(path.parent)) in str(caught.value)


def test_folders_that_do_not_belong_are_named(tmp_path):
    base = lay_out(tmp_path / "dukemtmc-vidreid", OLD)
    empty = base / "query/0005/0009"
    empty.mkdir()
    with pytest.raises(ValueError, match="0009 holds frames of 0 cameras"):
        lists(DukeMTMCVidReID, tmp_path)
    empty.rename(base / "query/people")
    with pytest.raises(ValueError, match="people is not named as an identity's folder"):
        lists(DukeMTMCVidReID, tmp_path)
