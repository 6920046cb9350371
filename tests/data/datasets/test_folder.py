"""Custom image datasets in folders."""

import os
import sys

import pytest

from helpers.datasets import draw, ids, loading
from reidlit.data.datasets.csv_file import CSVFile
from reidlit.data.datasets.folder import Folder
from reidlit.data.synthetic.pedestrians import Pedestrians

SPLITS = ("train", "query", "gallery")


@pytest.fixture(autouse=True)
def _working_directory(tmp_path, monkeypatch):
    """Change to an empty folder, because the default split file is written to the working directory."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def lay_out(root, *files):
    for file in files:
        draw(root / file)
    return root


def folder(root, **options):
    return Folder(str(root), **loading() | options)


def all_ids(data):
    return {split: ids(data.samples(split)) for split in data.splits}


PREDEFINED = [
    "query/7/c1/a.jpg",
    "query/Zoë B/c2/a.jpeg",
    "gallery/7/c10/b.PNG",
    "gallery/Anna/c1/deep/er/c.webp",
    "gallery/Zoë B/c10/d.jpg",
]


@pytest.mark.parametrize("test_only", [False, True])
def test_predefined_splits(test_only, tmp_path):
    root = lay_out(
        tmp_path / "my crops", *PREDEFINED, *([] if test_only else ["Train/Bob/c2/1.jpg", "Train/Bob/c2/2.jpg"])
    )
    (root / "query" / "7" / "Thumbs.db").write_bytes(b"stray")
    (root / "query" / "7" / "._a.jpg").write_bytes(b"stray")
    draw(root / "query" / "7" / ".hidden" / "x.jpg")
    draw(root / ".trash" / "x.jpg")
    data = folder(root, camera_pattern=r"^c(\d+)/")
    names = sorted(["7", "Anna", "Zoë B"] + ([] if test_only else ["Bob"]))
    seven, anna, zoe = (names.index(name) for name in ("7", "Anna", "Zoë B"))
    first, second, tenth = (0, 1, 2)  # cameras 1, 2 and 10 in numerical order
    expected = {
        "query": [(seven, first), (zoe, second)],
        "gallery": [(seven, tenth), (anna, first), (zoe, tenth)],
    }
    assert all_ids(data) == ({} if test_only else {"train": [(names.index("Bob"), second)] * 2}) | expected
    assert data.samples("gallery")[1].path == str(root / "gallery/Anna/c1/deep/er/c.webp")
    assert (data.name, data.split_path) == ("my crops", None)
    data.prepare_data()
    assert not list((tmp_path / "work").iterdir())  # no split file
    data.setup("test")
    assert list(data.test_sets) == ["my crops"]
    if test_only:
        with pytest.raises(ValueError, match=r"data=my crops .*data.combineall"):
            data.setup("fit")
        with pytest.raises(ValueError, match=r"data\.name=my crops.*train images"):
            data.listed("train")


def test_images_without_cameras_have_unique_negative_camids(tmp_path):
    data = folder(lay_out(tmp_path / "crops", *PREDEFINED))
    assert [(s.pid, s.camid) for s in data.samples("gallery")] == [(0, -2), (1, -3), (2, -4)]
    assert ids(data.samples("query")) == [(0, -5), (2, -6)]


def test_integer_identities_are_kept(tmp_path):
    root = lay_out(tmp_path / "crops", "train/0012/1.jpg", "query/-1/1.jpg", "query/30/1.jpg", "gallery/30/2.jpg")
    assert {split: [pid for pid, _ in labels] for split, labels in all_ids(folder(root)).items()} == {
        "train": [12],
        "query": [-1, 30],
        "gallery": [30],
    }
    lay_out(root, "gallery/012/1.jpg")
    with pytest.raises(ValueError, match="identities '0012' and '012'"):
        folder(root).samples("train")


FLAT = [f"{pid}/cam{camera}/{shot}.jpg" for pid in ("Ann", "Bob", "Çem", "10") for camera in "ba" for shot in "12"]


def test_random_split_is_stored_outside_the_data_and_reused(tmp_path):
    root = lay_out(tmp_path / "crops", *FLAT)
    for path in (root, *root.iterdir()):
        path.chmod(0o555)
    options = {"camera_pattern": "cam(.)/"}
    data = folder(root, **options)
    before = all_ids(data)
    assert {split: len(labels) for split, labels in before.items()} == {"train": 8, "query": 4, "gallery": 4}
    assert not {pid for pid, _ in before["train"]} & {pid for pid, _ in before["query"]}
    assert {pid for pid, _ in before["query"]} == {pid for pid, _ in before["gallery"]}
    data.prepare_data()
    split_file = tmp_path / "work" / "splits" / "crops.csv"
    assert data.split_path.resolve() == split_file
    written = split_file.read_text(encoding="utf-8")
    again = folder(root, **options)
    again.prepare_data()
    assert all_ids(again) == before
    assert split_file.read_text(encoding="utf-8") == written
    # The split file is a valid dataset for data=csv.
    table = CSVFile(str(split_file), str(root), **loading())
    assert [table.samples(split) for split in SPLITS] == [data.samples(split) for split in SPLITS]
    assert table.split_path is None
    # An edited file is used as it is.
    split_file.write_text(written.replace('"query"', '"train"').replace('"gallery"', '"train"'), encoding="utf-8")
    assert folder(root, **options).splits == ("train",)
    for path in (root, *root.iterdir()):
        path.chmod(0o755)
    draw(root / "Bob" / "camb" / "3.jpg")
    (root / "Ann" / "cama" / "1.jpg").unlink()
    with pytest.raises(ValueError, match=r"data\.split_file=.*crops\.csv .*1 added, 1 removed"):
        folder(root, **options).prepare_data()
    with pytest.raises(ValueError, match=r"test_fraction=0\.5 .*split_seed=0 test_fraction=0\.25"):
        folder(root, test_fraction=0.25, **options).prepare_data()


def test_split_that_another_process_has_written_meanwhile_is_compared(tmp_path):
    root = lay_out(tmp_path / "crops", *FLAT)
    same, other = folder(root), folder(root, test_fraction=0.25)
    drawn = [all_ids(data) for data in (same, other)]
    assert drawn[0] != drawn[1]
    folder(root).prepare_data()
    same.prepare_data()
    with pytest.raises(ValueError, match=r"test_fraction=0\.5 .*split_seed=0 test_fraction=0\.25"):
        other.prepare_data()


def test_each_seed_has_its_own_split_file(tmp_path):
    root = lay_out(tmp_path / "crops", *FLAT)
    for seed in range(4):
        folder(root, split_seed=seed).prepare_data()
    folder(root, split_seed=9, name="custom", split_file=str(tmp_path / "custom" / "s.csv")).prepare_data()
    files = sorted((tmp_path / "work" / "splits").iterdir())
    assert [file.name for file in files] == ["crops.csv", "crops_seed1.csv", "crops_seed2.csv", "crops_seed3.csv"]
    assert (tmp_path / "custom" / "s.csv").is_file()
    assert len({file.read_text(encoding="utf-8") for file in files}) == 4


def test_train_and_test_folders(tmp_path):
    data = folder(lay_out(tmp_path / "crops", "train/1/a.jpg", "test/2/a.jpg", "test/2/b.jpg", "test/3/a.jpg"))
    labels = all_ids(data)
    assert [pid for pid, _ in labels["train"]] == [1]
    assert [pid for pid, _ in labels["query"]] == [2]
    assert sorted(pid for pid, _ in labels["gallery"]) == [2, 3]
    assert data.split_path.name == "crops.csv"


@pytest.mark.parametrize(
    ("files", "options", "pattern"),
    [
        (["a/1.jpg", "b/1.jpg", "x.jpg"], {}, "crops .*1 .*'x.jpg'"),
        (["train/a/1.jpg", "train/x.jpg"], {}, "train .*1 .*'x.jpg'"),
        (["a/1.jpg", "b/notes.gz.jpg/1.jpg", "c/.hidden.jpg"], {}, "crops.c .*images"),
        (["a/1.jpg", "a/2.jpg"], {}, "crops .*2 images .*data.root/<identity>"),
        ([], {}, "crops .*0 images"),
        (["train/a/1.jpg", "val/b/1.jpg"], {}, "crops .*'train', 'val'"),
        (["train/a/1.jpg", "query/b/1.jpg"], {}, "crops .*query, train"),
        (["test/a/1.jpg", "query/b/1.jpg", "gallery/b/2.jpg"], {}, "crops .*gallery, query, test"),
        (FLAT, {"camera_pattern": "cam([ax])/"}, r"data\.camera_pattern='cam\(\[ax\]\)/' .*'camb/1\.jpg' of .*10"),
        (FLAT, {"camera_pattern": "cam(x?)"}, r"data\.camera_pattern='cam\(x\?\)' .*'cama/1\.jpg'"),
        (["a/c1.jpg", "a/c1b.jpg", "b/c2.jpg"], {"camera_pattern": r"c(\d)"}, "images .*two cameras"),
        (["a/c1.jpg", "b/c01.jpg"], {"camera_pattern": r"c(\d+)", "test_fraction": 0}, "cameras '01' and '1'"),
        (["a/1.jpg", " /1.jpg"], {"test_fraction": 0}, "' /1.jpg'"),
        (PREDEFINED, {"split_file": "s.csv"}, "data.split_file=s.csv"),
    ],
)
def test_invalid_layout_raises(files, options, pattern, tmp_path):
    (tmp_path / "crops").mkdir()
    with pytest.raises(ValueError, match=pattern):
        folder(lay_out(tmp_path / "crops", *files), **options).setup("fit")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_name_that_is_not_utf8_raises(tmp_path):
    root = lay_out(tmp_path / "crops", *FLAT)
    os.rename(os.fsencode(root / "Ann"), os.fsencode(root) + b"/\xff")  # noqa: PTH104 - a name of bytes
    with pytest.raises(ValueError, match=r"'\\udcff/cama/1\.jpg'"):
        folder(root).samples("train")


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"camera_pattern": "c("}, r"data\.camera_pattern='c\(' "),
        ({"camera_pattern": "c"}, "data.camera_pattern='c' .*0 groups"),
        ({"camera_pattern": "(c)(d)"}, r"data\.camera_pattern='\(c\)\(d\)' .*2 groups"),
        ({"test_fraction": 1.5}, "data.test_fraction=1.5"),
        ({"split_seed": -1}, "data.split_seed=-1"),
        ({"name": "a/b"}, "data.name='a/b'"),
        ({"name": ".."}, r"data.name='..'"),
    ],
)
def test_invalid_option_raises(options, pattern, tmp_path):
    with pytest.raises(ValueError, match=pattern):
        folder(tmp_path, **options)


def test_name_is_derived_from_root(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"data\.root"):
        Folder(None, **loading())
    with pytest.raises(FileNotFoundError, match=r"data\.root='.*nowhere'"):
        folder(tmp_path / "nowhere").setup("fit")
    monkeypatch.chdir(lay_out(tmp_path / "2024", *FLAT))
    assert (folder(".").name, folder("../2024/").name, folder("..").name) == ("2024", "2024", tmp_path.name)
    monkeypatch.chdir(tmp_path)
    assert folder(2024, name=7).name == "7"  # integers in a configuration
    assert len(Folder(2024, **loading()).samples("train")) == 8


def test_batches_contain_images_and_labels(tmp_path):
    pedestrians = Pedestrians(num_identities=6, num_cameras=2, shots=2, height=32, width=16)
    for file in pedestrians.write(tmp_path / "drawn", pedestrians.keys()):
        target = tmp_path / "crops" / file.name[:4] / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
    data = folder(tmp_path / "crops", camera_pattern=r"_c(\d+)_", val_fraction=0.34)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    batches = list(data.train_dataloader())
    assert [tuple(batch["image"].shape) for batch in batches] == [(2, 3, 32, 16)] * 4
    assert {label for batch in batches for label in batch["pid"].tolist()} == {0, 1}
    assert len(data.val.query) == 2  # one held-out identity
    found = [
        (pid, camid, query)
        for batch in data.test_dataloader()["crops"]
        for pid, camid, query in zip(*(batch[key].tolist() for key in ("pid", "camid", "query")), strict=True)
    ]
    tested = sorted({pid for pid, _, _ in found})
    assert len(tested) == 3
    assert not set(tested) & (set(data.pids) | {sample.pid for sample in data.val.query})
    expected = [(pid, camid, query) for query in (True, False) for pid in tested for camid in (0, 1)]
    assert found == expected
