"""A user's own tracklets, in folders and in a table."""

import pytest

from helpers.datasets import draw, ids, loading
from helpers.video import SPLITS, names, touch
from reidlit.data.datasets.tracklets import Tracklets, TrackletsCSV
from reidlit.data.image_files import natural

CAMERA = "^([^/]+)/[^/]+/"  # as in conf/data/tracklets.yaml


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """The default split file goes to the working directory."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def folders(root, *files, **options):
    for file in files:
        touch(root / file)
    return Tracklets(str(root), **{"camera_pattern": CAMERA} | options, **loading())


@pytest.fixture
def table(tmp_path):
    """Writes `people.csv` and its frames; gives the dataset."""

    def write(text, **options):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "people.csv").write_text(text)
        for line in text.splitlines()[1:]:
            touch(tmp_path / "data" / line.split(",")[0])
        return TrackletsCSV(str(tmp_path / "data" / "people.csv"), **options, **loading())

    return write


def all_ids(data):
    return {split: ids(data.samples(split)) for split in data.splits}


def test_numbers_in_names_count_by_value():
    listed = ["10.jpg", "2.jpg", "b/1", "02.jpg", "a10b2", "a9b10", "a10b10", "²", ""]
    assert sorted(listed, key=natural) == ["", "02.jpg", "2.jpg", "10.jpg", "a9b10", "a10b2", "a10b10", "b/1", "²"]


def test_ready_splits(tmp_path):
    root = tmp_path / "people"
    files = ["query/Zoë/c1/t1/1.jpg", "gallery/Zoë/c2/t1/1.jpg", "gallery/Ann/c10/x/0.png", "Train/Bob/c2/t9/7.jpg"]
    files += [f"query/Zoë/c2/{tracklet}/{frame}.jpg" for tracklet in ("t1", "t10") for frame in (10, 2, 1)]
    data = folders(root, *files, "query/Zoë/c1/t1/Thumbs.db", "query/Zoë/c1/t1/._1.jpg")
    assert all_ids(data) == {"train": [(1, 2)], "query": [(2, 0), (2, 2), (2, 2)], "gallery": [(0, 1), (2, 2)]}
    query = data.samples("query")
    assert names(query) == [("1.jpg",), ("1.jpg", "2.jpg", "10.jpg"), ("1.jpg", "2.jpg", "10.jpg")]
    assert query[2].path[2] == str(root / "query/Zoë/c2/t10/10.jpg")
    assert (data.name, data.split_path, data.item_name) == ("people", None, "tracklets")
    assert [len(sample.path) for sample in folders(root, min_frames=2).listed("query")] == [3, 3]
    with pytest.raises(ValueError, match=r"data.min_frames=9 leaves no gallery tracklet of 2"):
        folders(root, min_frames=9).listed("gallery")
    with pytest.raises(ValueError, match=r"no query tracklets in .*data.root/<identity>/<camera>/<tracklet>"):
        folders(tmp_path / "train only", "train/a/1/1/1.jpg", "train/b/1/1/1.jpg").listed("query")


FLAT = [
    f"{pid}/{camera}/{tracklet}/{frame}.jpg" for pid in "abcd" for camera in "xy" for tracklet in "12" for frame in "12"
]


def test_splits_are_drawn_by_tracklet_and_kept(tmp_path):
    root = tmp_path / "people"
    data = folders(root, *FLAT)
    before = {split: data.samples(split) for split in data.splits}
    assert {split: len(found) for split, found in before.items()} == {"train": 8, "query": 4, "gallery": 4}
    assert not {s.pid for s in before["train"]} & {s.pid for s in before["query"] + before["gallery"]}
    assert len(set(ids(before["query"]))) == 4  # one of each camera
    data.prepare_data()
    kept = tmp_path / "work" / "splits" / "people.csv"
    assert kept.read_text().splitlines()[1].startswith('"a/x/1","a","x",')
    touch(root / "a/x/1/3.jpg")  # a frame more is no other tracklet
    again = folders(root)
    assert {split: ids(again.samples(split)) for split in SPLITS} == {split: ids(before[split]) for split in SPLITS}
    touch(root / "a/x/3/1.jpg")
    with pytest.raises(ValueError, match=r"holds the split of other data: 1 were added"):
        folders(root).prepare_data()
    other = folders(root, split_seed=1)
    other.prepare_data()
    assert other.split_path.name == "people_seed1.csv"


def test_folders_without_cameras_and_cameras_of_another_level(tmp_path):
    files = [f"{pid}/{tracklet}/{frame}.jpg" for pid in "abcd" for tracklet in ("c1_1", "c2_1") for frame in "12"]
    data = folders(tmp_path / "people", *files, camera_pattern=None)
    assert {split: len(found) for split, found in all_ids(data).items()} == {"train": 4, "query": 2, "gallery": 2}
    every = [camid for found in all_ids(data).values() for _, camid in found]
    assert max(every) < -1
    assert len(set(every)) == 8
    data = folders(tmp_path / "people", camera_pattern=r"c(\d)_", test_fraction=1)
    assert {camid for _, camid in all_ids(data)["query"]} <= {0, 1}


@pytest.mark.parametrize(
    ("files", "options", "words"),
    [
        (["a/x/1.jpg", "b/x/1.jpg"], {}, r"finds no camera in 'x/1.jpg' of .*a\. It must"),
        (["a/1.jpg", "b/1.jpg"], {"camera_pattern": None}, r"a/1.jpg lies in its identity's folder.*data=folder"),
        (["test/a/1.jpg", "test/b/1.jpg"], {"camera_pattern": None}, "test/a/1.jpg lies in its identity's folder"),
        (
            ["a/x/c1.jpg", "a/x/c2.jpg"],
            {"camera_pattern": r"c(\d)"},
            "'a/x' has frames of .*camera '1' and .*camera '2'",
        ),
        (["a/x/1/1.jpg", "a/y/1/1.jpg"], {}, "holds 2 tracklets of fewer than two identities"),
        (["a/x/1/1.jpg", "b/x/1/1.jpg"], {}, "No identity has tracklets of two cameras.*data.camera_pattern"),
        (["a/1/1.jpg", "b/1/1.jpg"], {"camera_pattern": None}, "No identity has two tracklets"),
        (FLAT, {"seq_len": 0}, "data.seq_len=0"),
    ],
)
def test_layouts_that_are_refused(files, options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        folders(tmp_path / "people", *files, **options).setup("fit")


LINES = """path,pid,camid,tracklet,split,frame
v/10.jpg,Zoë,hall,t1,query,2
v/2.jpg,Zoë,hall,t1,query,10
v/3.jpg,Zoë,hall,t1,query,1.5
v/4.jpg,Zoë,door,t1,gallery,
v/5.jpg,Ann,door,t1,train,1
v/6.jpg,Bob,hall,t1,train,1
v/10.jpg,Zoë,hall,t1,gallery,2
v/2.jpg,Zoë,hall,t1,gallery,10
v/3.jpg,Zoë,hall,t1,gallery,1.5
"""


def test_a_table_of_frames(table):
    data = table(LINES)
    assert all_ids(data) == {"train": [(0, 0), (1, 1)], "query": [(2, 1)], "gallery": [(2, 0), (2, 1)]}
    assert names(data.samples("query")) == [("3.jpg", "10.jpg", "2.jpg")]  # by frame, not by name
    assert data.samples("query")[0].path == data.samples("gallery")[1].path
    without = "\n".join(line.rpartition(",")[0] for line in LINES.splitlines())
    assert names(table(without).samples("query")) == [("2.jpg", "3.jpg", "10.jpg")]
    # Without cameras a query that is in the gallery does not find itself.
    text = "path,pid,tracklet,split\nv/1.jpg,1,1,query\nv/1.jpg,1,1,gallery\nv/2.jpg,1,2,gallery\nv/3.jpg,2,1,gallery\n"
    found = all_ids(table(text))
    assert found == {"query": [(1, -2)], "gallery": [(1, -2), (1, -3), (2, -4)]}


def test_a_split_of_a_table_is_drawn_and_kept(table, tmp_path):
    text = "path,pid,camid,tracklet\n" + "".join(f"{name},{name[0]},{name[2]},{name[4]}\n" for name in reversed(FLAT))
    data = table(text)
    data.prepare_data()
    assert {split: len(data.samples(split)) for split in SPLITS} == {"train": 8, "query": 4, "gallery": 4}
    assert '"a/x/1","a","x",' in (tmp_path / "work" / "splits" / "people.csv").read_text()
    assert [table(text).samples(split) for split in SPLITS] == [data.samples(split) for split in SPLITS]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,pid\na.jpg,1\nb.jpg,2\n", "'a.jpg' has no tracklet. Fill in the column tracklet"),
        ("path,pid,tracklet\na.jpg,1,1\nb.jpg,2,\n", "'b.jpg' has no tracklet"),
        ("path,pid,tracklet,frame\na.jpg,1,1,1\nb.jpg,1,1,\n", "frame='' of 'b.jpg' must be a number, on every line"),
        ("path,pid,tracklet,frame\na.jpg,1,1,1\nb.jpg,1,1,nan\n", "frame='nan' of 'b.jpg'"),
        ("path,pid,tracklet,frame\na.jpg,1,1,1\nb.jpg,1,1,01\n", "frame=1 of 'a.jpg' is also that of 'b.jpg'"),
        (
            "path,pid,tracklet,split\na.jpg,1,1,train\nb.jpg,1,1,test\n",
            "'1/1' has frames of .*split 'train' and .*'test'",
        ),
        ("path,pid,tracklet,split\na.jpg,1,1,query\nb.jpg,1,1,gallery\n", "may be listed twice, whole"),
        ("path,pid,tracklet,dsetid\na.jpg,1,1,x\nb.jpg,1,1,y\n", "dataset 'x' and .*dataset 'y'"),
        ("path,pid,tracklet\na.jpg,1/2,3\nb.jpg,1,2/3\n", "'1/2/3' has frames of identity '1/2' and of identity '1'"),
    ],
)
def test_tables_that_are_refused(text, words, table):
    with pytest.raises(ValueError, match=words):
        table(text).setup("fit")


def test_from_frames_to_batches(tmp_path):
    root = tmp_path / "people"
    for place, file in enumerate(FLAT):
        draw(root / file, gray=8 * place)
    data = folders(root, seq_len=3, sampling="even", test_sampling="all")
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    assert next(iter(data.train_dataloader()))["image"].shape == (2, 3, 3, 32, 16)
    batch = next(iter(data.test_dataloader()["people"]))
    assert batch["image"].shape == (4, 3, 3, 32, 16)
    assert batch["frame_mask"].tolist() == [[True, True, False]] * 4
    gray = batch["image"][0, :, 0, 0, 0].tolist()
    assert gray[1] - gray[0] == pytest.approx(8, abs=2)  # in the order of frames


def test_packed_frames_are_the_same(tmp_path):
    for place, file in enumerate(FLAT):
        draw(tmp_path / "people" / file, gray=8 * place)
    batches = []
    for pack in (None, "decoded"):
        options = loading(pack=pack, pack_dir=str(tmp_path / "packed"))
        data = Tracklets(str(tmp_path / "people"), camera_pattern=CAMERA, seq_len=2, **options)
        data.prepare_data()
        data.setup("test")
        batches.append(next(iter(data.test_dataloader()["people"]))["image"])
    assert len(list((tmp_path / "packed").iterdir())) == 1
    assert batches[0].equal(batches[1])
