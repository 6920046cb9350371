"""Custom image datasets in a CSV file."""

import pytest

from helpers.datasets import draw, ids, loading
from reidlit.data.datasets.csv_file import CSVFile

SPLITS = ("train", "query", "gallery")


@pytest.fixture(autouse=True)
def _working_directory(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def table(tmp_path):
    """Return a function that writes `people.csv` and images next to it and returns the dataset."""

    def write(text, images=(), encoding="utf-8", **options):
        for image in images:
            draw(tmp_path / "data" / image)
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "people.csv").write_bytes(text.encode(encoding))
        return CSVFile(str(tmp_path / "data" / "people.csv"), **loading() | options)

    return write


IMAGES = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "c 1.png"]
LINES = [
    ["split", "pid", "note", "path", "camid", "time", "dsetid"],
    ["gallery", "Zoë", "", "c 1.png", "hall", "3", "x"],
    ["train", "10", "y", "a/2.jpg", "door", "1", "y"],
    ["train", "10", "", "./a//1.jpg", "hall", "2", "x"],
    ["query", "Zoë", "", "b/1.jpg", "door", "", "x"],
    ["gallery", "Zoë", "z", "b/1.jpg", "door", "", "x"],
]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", ", "])
@pytest.mark.parametrize(("encoding", "end"), [("utf-8", "\n"), ("utf-8-sig", "\r\n")])
def test_table_may_have_any_order_delimiter_and_encoding(delimiter, encoding, end, table, tmp_path):
    text = end.join(delimiter.join(line) for line in LINES) + end + end
    data = table(text, IMAGES, encoding)
    assert {split: [tuple(s) for s in data.samples(split)] for split in data.splits} == {
        "train": [
            (str(tmp_path / "data/a/1.jpg"), 0, 1, 0),
            (str(tmp_path / "data/a/2.jpg"), 0, 0, 1),
        ],
        "query": [(str(tmp_path / "data/b/1.jpg"), 1, 0, 0)],
        "gallery": [(str(tmp_path / "data/b/1.jpg"), 1, 0, 0), (str(tmp_path / "data/c 1.png"), 1, 1, 0)],
    }
    assert (data.name, data.split_path, data.splits) == ("people", None, SPLITS)


def test_query_in_gallery_does_not_match_itself(table):
    text = "path,pid,split\nb/1.jpg,2,query\na/1.jpg,2,gallery\nb/1.jpg,2,gallery\nb/2.jpg,3,gallery\n"
    data = table(text, IMAGES)
    assert ids(data.samples("query")) == [(2, -3)]
    assert ids(data.samples("gallery")) == [(2, -2), (2, -3), (3, -4)]
    assert data.splits == ("query", "gallery")


def test_paths_are_absolute_or_relative_to_root(table, tmp_path):
    relative, absolute = draw(tmp_path / "other" / "x" / "1.jpg"), draw(tmp_path / "2.jpg")
    text = f"path,pid,split\nx/1.jpg,1,train\n{absolute},2,train\n"
    data = table(text, root=str(tmp_path / "other"))
    assert {s.path: s.pid for s in data.samples("train")} == {str(relative): 1, str(absolute): 2}
    with pytest.raises(FileNotFoundError, match=r"people\.csv .*1 .*'x/1\.jpg'.*data\.root"):
        table(text).samples("train")


def test_random_split_is_stored(table, tmp_path):
    images = [f"{pid}/{camera}{shot}.jpg" for pid in "abcdef" for camera in "xy" for shot in "12"]
    text = "path,pid,camid\n" + "".join(f"{name},{name[0]},{name[2]}\n" for name in reversed(images))
    data = table(text, images, name="mine")
    data.prepare_data()
    assert data.split_path.resolve() == tmp_path / "work" / "splits" / "mine.csv"
    assert [len(data.samples(split)) for split in SPLITS] == [12, 6, 6]
    again = table(text, images, name="mine")
    assert [again.samples(split) for split in SPLITS] == [data.samples(split) for split in SPLITS]
    # Predefined train and test; random query and gallery.
    predefined = text.replace("\n", ",train\n").replace("camid,train", "camid,split")
    lines = predefined.splitlines(True)
    predefined = "".join(line.replace("train", "test") if line[0] in "ef" else line for line in lines)
    data = table(predefined, images)
    pids = {split: {sample.pid for sample in data.samples(split)} for split in SPLITS}
    assert pids == {"train": {0, 1, 2, 3}, "query": {4, 5}, "gallery": {4, 5}}
    with pytest.raises(ValueError, match=r"data\.split_file=.*people\.csv"):
        table(text, images, split_file=str(tmp_path / "data" / "people.csv")).prepare_data()


HEAD = "path,pid,split\n"


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("", "line 1: .*'' .*path and pid"),
        ("path,person\na/1.jpg,1\n", "line 1: .*'path,person' .*path and pid"),
        ("path|pid\na/1.jpg|1\n", r"line 1: .*'path\|pid' "),
        ("path,pid,pid\na/1.jpg,1,2\n", "line 1: .*'pid'"),
        (f"{HEAD}a/1.jpg,1,train\n,2,train\n", "line 3: path (?!.*column)"),
        (f"{HEAD}a/1.jpg, ,train\n", "line 2: pid "),
        (f"{HEAD}\na/1.jpg,1\n", "line 3: split .*column"),
        ("path,pid,camid\na/1.jpg,1,2\na/2.jpg,1,\n", "line 3: camid "),
        (f"{HEAD}a/1.jpg,1,Train\n", "line 2: split='Train' .*train, query, gallery, test"),
        (f"{HEAD}a/1.jpg,1,train,x\n", "line 2: 4 .*3 columns"),
        (f"{HEAD}a/1.jpg,1,train\na/2.jpg,1,train\na/1.jpg,1,train\n", "line 4: 'a/1.jpg' .*line 2"),
        (f"{HEAD}a/1.jpg,1,train\n./a/1.jpg,1,query\n", "line 3: 'a/1.jpg' .*line 2"),
        (f"{HEAD}a/1.jpg,1,query\na/1.jpg,2,gallery\n", "line 3: 'a/1.jpg' .*line 2"),
        (f"{HEAD}a/1.jpg,1,query\na/1.jpg,1,gallery\na/1.jpg,1,query\n", "line 4: 'a/1.jpg' .*line 2"),
        ("path,pid\na/1.jpg,1\na/1.jpg,1\n", "line 3: 'a/1.jpg' .*line 2"),
        (f'{HEAD}a/1.jpg,1,train\n"a/2.jpg,1,train\n', "line 3: "),
        (f"{HEAD}a/1.jpg,1,query\na/2.jpg,2,train\n", "query, train"),
        (f"{HEAD}a/1.jpg,1,train\n", "1 images .*data.file"),
    ],
)
def test_invalid_table_raises(text, pattern, table):
    with pytest.raises(ValueError, match=pattern):
        table(text, IMAGES).setup("fit")


def test_unreadable_or_missing_file_raises(table, tmp_path):
    with pytest.raises(ValueError, match=r"people\.csv .*UTF-8 \(byte 17\)"):
        table("path,pid\na/1.jpg,ö\n", encoding="latin-1").samples("train")
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv"):
        CSVFile(str(tmp_path / "nothing.csv"), **loading()).setup("fit")
    with pytest.raises(ValueError, match=r"data\.file"):
        CSVFile(None, **loading())
