"""Custom video datasets, in folders and in a CSV file."""

import pytest

from helpers.datasets import draw, ids, loading
from helpers.video import SPLITS, names, touch
from reidlit.data.datasets.tracklets import Tracklets, TrackletsCSV
from reidlit.data.image_files import natural

CAMERA = "^([^/]+)/[^/]+/"  # as in conf/data/tracklets.yaml


@pytest.fixture(autouse=True)
def _working_directory(tmp_path, monkeypatch):
    """Change to an empty folder, because the default split file is written to the working directory."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def folders(root, *files, **options):
    for file in files:
        touch(root / file)
    return Tracklets(str(root), **{"camera_pattern": CAMERA} | options, **loading())


@pytest.fixture
def table(tmp_path):
    """Return a function that writes `people.csv` and its frames and returns the dataset."""

    def write(text, **options):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "people.csv").write_text(text)
        for line in text.splitlines()[1:]:
            touch(tmp_path / "data" / line.split(",")[0])
        return TrackletsCSV(str(tmp_path / "data" / "people.csv"), **options, **loading())

    return write


def all_ids(data):
    return {split: ids(data.samples(split)) for split in data.splits}


def test_natural_order_compares_numbers_by_value():
    listed = ["10.jpg", "2.jpg", "b/1", "02.jpg", "a10b2", "a9b10", "a10b10", "²", ""]
    assert sorted(listed, key=natural) == ["", "02.jpg", "2.jpg", "10.jpg", "a9b10", "a10b2", "a10b10", "b/1", "²"]


def test_predefined_splits(tmp_path):
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
    with pytest.raises(ValueError, match=r"data\.min_frames=9 .*2 gallery"):
        folders(root, min_frames=9).listed("gallery")
    with pytest.raises(ValueError, match=r"train only.* query tracklets"):
        folders(tmp_path / "train only", "train/a/1/1/1.jpg", "train/b/1/1/1.jpg").listed("query")


FLAT = [
    f"{pid}/{camera}/{tracklet}/{frame}.jpg" for pid in "abcd" for camera in "xy" for tracklet in "12" for frame in "12"
]


def test_random_split_by_tracklet_is_stored(tmp_path):
    root = tmp_path / "people"
    data = folders(root, *FLAT)
    before = {split: data.samples(split) for split in data.splits}
    assert {split: len(samples) for split, samples in before.items()} == {"train": 8, "query": 4, "gallery": 4}
    assert not {s.pid for s in before["train"]} & {s.pid for s in before["query"] + before["gallery"]}
    assert len(set(ids(before["query"]))) == 4  # one of each camera
    data.prepare_data()
    split_file = tmp_path / "work" / "splits" / "people.csv"
    assert split_file.read_text().splitlines()[1].startswith('"a/x/1","a","x",')
    touch(root / "a/x/1/3.jpg")  # an additional frame does not change the tracklets
    again = folders(root)
    assert {split: ids(again.samples(split)) for split in SPLITS} == {split: ids(before[split]) for split in SPLITS}
    touch(root / "a/x/3/1.jpg")
    with pytest.raises(ValueError, match=r"data\.split_file=.*people\.csv .*1 added"):
        folders(root).prepare_data()
    other = folders(root, split_seed=1)
    other.prepare_data()
    assert other.split_path.name == "people_seed1.csv"


def test_camera_pattern_is_optional_and_matches_any_level(tmp_path):
    files = [f"{pid}/{tracklet}/{frame}.jpg" for pid in "abcd" for tracklet in ("c1_1", "c2_1") for frame in "12"]
    data = folders(tmp_path / "people", *files, camera_pattern=None)
    assert {split: len(labels) for split, labels in all_ids(data).items()} == {"train": 4, "query": 2, "gallery": 2}
    camids = [camid for labels in all_ids(data).values() for _, camid in labels]
    assert max(camids) < -1
    assert len(set(camids)) == 8
    data = folders(tmp_path / "people", camera_pattern=r"c(\d)_", test_fraction=1)
    assert {camid for _, camid in all_ids(data)["query"]} <= {0, 1}


@pytest.mark.parametrize(
    ("files", "options", "pattern"),
    [
        (["a/x/1.jpg", "b/x/1.jpg"], {}, r"data\.camera_pattern=.*'x/1\.jpg' of .*a\."),
        (["a/1.jpg", "b/1.jpg"], {"camera_pattern": None}, r"a/1\.jpg .*data=folder"),
        (["test/a/1.jpg", "test/b/1.jpg"], {"camera_pattern": None}, r"test/a/1\.jpg "),
        (
            ["a/x/c1.jpg", "a/x/c2.jpg"],
            {"camera_pattern": r"c(\d)"},
            "'a/x' .*camera '1' .*camera '2'",
        ),
        (["a/x/1/1.jpg", "a/y/1/1.jpg"], {}, "people .*2 tracklets"),
        (["a/x/1/1.jpg", "b/x/1/1.jpg"], {}, "tracklets .*two cameras.*data.camera_pattern"),
        (["a/1/1.jpg", "b/1/1.jpg"], {"camera_pattern": None}, "two tracklets"),
        (FLAT, {"seq_len": 0}, "data.seq_len=0"),
    ],
)
def test_invalid_layout_raises(files, options, pattern, tmp_path):
    with pytest.raises(ValueError, match=pattern):
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


def test_table_of_frames(table):
    data = table(LINES)
    assert all_ids(data) == {"train": [(0, 0), (1, 1)], "query": [(2, 1)], "gallery": [(2, 0), (2, 1)]}
    assert names(data.samples("query")) == [("3.jpg", "10.jpg", "2.jpg")]  # sorted by frame number, not by name
    assert data.samples("query")[0].path == data.samples("gallery")[1].path
    without = "\n".join(line.rpartition(",")[0] for line in LINES.splitlines())
    assert names(table(without).samples("query")) == [("2.jpg", "3.jpg", "10.jpg")]
    # If cameras are unknown, a query that is also in the gallery does not match itself.
    text = "path,pid,tracklet,split\nv/1.jpg,1,1,query\nv/1.jpg,1,1,gallery\nv/2.jpg,1,2,gallery\nv/3.jpg,2,1,gallery\n"
    assert all_ids(table(text)) == {"query": [(1, -2)], "gallery": [(1, -2), (1, -3), (2, -4)]}


def test_random_split_of_table_is_stored(table, tmp_path):
    text = "path,pid,camid,tracklet\n" + "".join(f"{name},{name[0]},{name[2]},{name[4]}\n" for name in reversed(FLAT))
    data = table(text)
    data.prepare_data()
    assert {split: len(data.samples(split)) for split in SPLITS} == {"train": 8, "query": 4, "gallery": 4}
    assert '"a/x/1","a","x",' in (tmp_path / "work" / "splits" / "people.csv").read_text()
    assert [table(text).samples(split) for split in SPLITS] == [data.samples(split) for split in SPLITS]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("path,pid\na.jpg,1\nb.jpg,2\n", "people.csv: 'a.jpg' .*tracklet"),
        ("path,pid,tracklet\na.jpg,1,1\nb.jpg,2,\n", "people.csv: 'b.jpg' .*tracklet"),
        ("path,pid,tracklet,frame\na.jpg,1,1,1\nb.jpg,1,1,\n", "frame='' of 'b.jpg'"),
        ("path,pid,tracklet,frame\na.jpg,1,1,1\nb.jpg,1,1,nan\n", "frame='nan' of 'b.jpg'"),
        ("path,pid,tracklet,frame\na.jpg,1,1,1\nb.jpg,1,1,01\n", "frame=1 of 'a.jpg' .*'b.jpg'"),
        (
            "path,pid,tracklet,split\na.jpg,1,1,train\nb.jpg,1,1,test\n",
            "'1/1' .*split 'train' .*split 'test'",
        ),
        ("path,pid,tracklet,split\na.jpg,1,1,query\nb.jpg,1,1,gallery\n", "'1/1' .*split 'query' .*split 'gallery'"),
        ("path,pid,tracklet,dsetid\na.jpg,1,1,x\nb.jpg,1,1,y\n", "'1/1' .*dataset 'x' .*dataset 'y'"),
        ("path,pid,tracklet\na.jpg,1/2,3\nb.jpg,1,2/3\n", "'1/2/3' .*identity '1/2' .*identity '1'"),
    ],
)
def test_invalid_table_raises(text, pattern, table):
    with pytest.raises(ValueError, match=pattern):
        table(text).setup("fit")


def test_batches_contain_clips(tmp_path):
    root = tmp_path / "people"
    for index, file in enumerate(FLAT):
        draw(root / file, gray=8 * index)
    data = folders(root, seq_len=3, sampling="even", test_sampling="all")
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    assert next(iter(data.train_dataloader()))["image"].shape == (2, 3, 3, 32, 16)
    batch = next(iter(data.test_dataloader()["people"]))
    assert batch["image"].shape == (4, 3, 3, 32, 16)
    assert batch["frame_mask"].tolist() == [[True, True, False]] * 4
    gray = batch["image"][0, :, 0, 0, 0].tolist()
    assert gray[1] - gray[0] == pytest.approx(8, abs=2)  # frames are in order


def test_packed_frames_equal_image_files(tmp_path):
    for index, file in enumerate(FLAT):
        draw(tmp_path / "people" / file, gray=8 * index)
    batches = []
    for pack in (None, "decoded"):
        options = loading(pack=pack, pack_dir=str(tmp_path / "packed"))
        data = Tracklets(str(tmp_path / "people"), camera_pattern=CAMERA, seq_len=2, **options)
        data.prepare_data()
        data.setup("test")
        batches.append(next(iter(data.test_dataloader()["people"]))["image"])
    assert len(list((tmp_path / "packed").iterdir())) == 1
    assert batches[0].equal(batches[1])
