"""Random splits of rows, and the tables that store them."""

import csv
from collections import Counter, defaultdict

import pytest

from reidlit.data.random_splits import Row, apply_table, draw_splits, read_table, write_table

QUERIES = ["01/1_0", "01/2_0", "02/1_0", "02/2_0", "06/1_1", "06/2_0", "07/1_2", "07/2_0"]  # with seed 0


def rows_of(cameras, split=""):
    """Return rows from the number of images by identity and camera, such as `{"a": {"1": 2, "2": 1}}`."""
    return sorted(
        Row(f"{pid}/{camera}_{shot}.jpg", pid, camera, split)
        for pid, shots in cameras.items()
        for camera, number in shots.items()
        for shot in range(number)
    )


def splits_of(rows):
    """Return the number of images by identity and split."""
    counters = defaultdict(Counter)
    for row in rows:
        counters[row.pid][row.split] += 1
    return {pid: dict(counter) for pid, counter in counters.items()}


def cameras_of(rows, split):
    return Counter((row.pid, row.camid) for row in rows if row.split == split)


def test_identities_are_not_divided_and_one_camera_identities_are_for_training():
    cameras = {f"{pid:02}": {"1": 3, "2": 2} for pid in range(8)} | {"98": {"1": 5}, "99": {"2": 1}}
    drawn = draw_splits(rows_of(cameras), 0.5, seed=0)
    splits = splits_of(drawn)
    assert [row._replace(split="") for row in drawn] == rows_of(cameras)
    tested = [pid for pid, counts in splits.items() if "train" not in counts]
    assert len(tested) == 4
    assert all(splits[pid] == {"query": 2, "gallery": 3} for pid in tested)
    assert all(set(counts) == {"train"} for pid, counts in splits.items() if pid not in tested)
    assert {splits[pid]["train"] for pid in ("98", "99")} == {5, 1}
    assert set(cameras_of(drawn, "query").values()) == {1}
    # The split for a seed must not change between releases.
    assert tested == ["01", "02", "06", "07"]
    assert [row.path for row in drawn if row.split == "query"] == [f"{name}.jpg" for name in QUERIES]
    assert draw_splits(rows_of(cameras), 0.5, seed=0) == drawn
    others = [splits_of(draw_splits(rows_of(cameras), 0.5, seed)) for seed in range(1, 6)]
    assert any(other != splits for other in others)


@pytest.mark.parametrize(("fraction", "number"), [(0.01, 1), (0.3, 2), (0.75, 6), (1, 8), (0, 0)])
def test_fraction_refers_to_eligible_identities(fraction, number):
    cameras = {str(pid): {"1": 1, "2": 1} for pid in range(8)} | {"8": {"1": 4}, "9": {"1": 1}}
    splits = splits_of(draw_splits(rows_of(cameras), fraction, seed=3))
    assert sum("query" in counts for counts in splits.values()) == number
    ineligible = [splits[pid] for pid in ("8", "9")]
    assert ineligible == ([{"gallery": 4}, {"gallery": 1}] if fraction == 1 else [{"train": 4}, {"train": 1}])


@pytest.mark.parametrize(
    ("shots", "num_queries"),
    [((1, 1), 1), ((1, 1, 1), 2), ((3, 1), 1), ((3, 1, 1), 2), ((2, 2), 2), ((2, 2, 1), 3), ((5, 2, 1, 1), 4)],
)
@pytest.mark.parametrize("seed", range(5))
def test_each_query_has_match_from_another_camera(shots, num_queries, seed):
    cameras = {"a": {str(camera): number for camera, number in enumerate(shots)}, "b": {"0": 1}}
    drawn = draw_splits(rows_of(cameras, "test"), 0.5, seed)
    queries = [row for row in drawn if row.split == "query"]
    assert len(queries) == num_queries
    for query in queries:
        assert any(row.split == "gallery" and row.pid == "a" and row.camid != query.camid for row in drawn)
    assert splits_of(drawn)["b"] == {"gallery": 1}


def test_identity_without_cameras_has_one_query():
    drawn = draw_splits(rows_of({"a": {"": 4}, "b": {"": 2}, "c": {"": 1}}), 1, seed=0)
    assert splits_of(drawn) == {"a": {"query": 1, "gallery": 3}, "b": {"query": 1, "gallery": 1}, "c": {"gallery": 1}}


def test_rows_of_train_and_test_keep_their_split():
    rows = sorted(rows_of({"a": {"1": 2, "2": 2}}, "train") + rows_of({"b": {"1": 2, "2": 2}}, "test"))
    assert splits_of(draw_splits(rows, 0.5, seed=0)) == {"a": {"train": 4}, "b": {"query": 2, "gallery": 2}}


@pytest.mark.parametrize(
    ("cameras", "fraction", "pattern"),
    [
        ({"a": {"1": 2}, "b": {"2": 2}}, 0.5, "images .*two cameras.*data.camera_pattern"),
        ({"a": {"": 1}, "b": {"": 1}}, 1, "two images.*data.test_fraction"),
        ({"a": {"": 2}, "b": {"": 2}}, 0.5, "data.test_fraction=0.5 .*1 of 2 identities"),
    ],
)
def test_impossible_split_raises(cameras, fraction, pattern):
    with pytest.raises(ValueError, match=pattern):
        draw_splits(rows_of(cameras), fraction, seed=0)
    assert splits_of(draw_splits(rows_of(cameras), 0, seed=0))["a"].keys() == {"train"}


def test_written_table_can_be_read(tmp_path):
    rows = [
        Row(" a/Zoë, left\n.jpg", "Zoë, left", "x;y", "query", drawn_with="seed"),
        Row(" a/Zoë, left\n.jpg", "Zoë, left", "x;y", "gallery", drawn_with="seed"),
        Row('b/"q"\t.jpg', '"q"', "2", "train", drawn_with="seed"),
    ]
    write_table(tmp_path / "new" / "t.csv", rows)
    assert read_table(tmp_path / "new" / "t.csv") == rows
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["t.csv"]  # no temporary file
    with (tmp_path / "new" / "t.csv").open(newline="", encoding="utf-8") as file:
        assert csv.DictReader(file).fieldnames == [
            "path",
            "pid",
            "camid",
            "split",
            "drawn_with",
        ]  # no empty column dsetid


def test_unwritable_table_raises(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file.t\.csv.*data\.split_file"):
        write_table(tmp_path / "file" / "t.csv", rows_of({"a": {"": 1}}))


def test_stored_split_is_applied_only_to_the_same_images(tmp_path):
    rows = rows_of({"a": {"1": 1, "2": 1}, "b": {"1": 2, "2": 1}, "c": {"1": 1}})
    drawn = [row._replace(drawn_with="s") for row in draw_splits(rows, 0.5, seed=0)]
    file = tmp_path / "t.csv"
    write_table(file, drawn)
    assert [(row.path, row.split) for row in apply_table(file, rows, "s")] == [(r.path, r.split) for r in drawn]
    with pytest.raises(ValueError, match=r"data\.split_file=.*t\.csv .* s .*other"):
        apply_table(file, rows, "other")
    for changed, counts in (
        ([*rows, Row("d/1.jpg", "d", "1")], "1 added, 0 removed, and 0"),
        (rows[2:], "0 added, 2 removed, and 0"),
        ([rows[0]._replace(camid="7"), rows[1]._replace(pid="z"), *rows[2:]], "0 removed, and 2 "),
        ([row._replace(split="test") for row in rows], rf"0 removed, and {splits_of(drawn)['c']['train'] + 2} "),
    ):
        with pytest.raises(ValueError, match=counts):
            apply_table(file, changed, "s")
    # A manual split has no settings and may have an image in query and gallery.
    manual = [row._replace(split="train") for row in rows[1:]]
    manual += [rows[0]._replace(split=split) for split in ("query", "gallery")]
    write_table(file, manual)
    assert Counter(row.split for row in apply_table(file, rows, "s")) == {"train": 5, "query": 1, "gallery": 1}
    write_table(file, rows)
    with pytest.raises(ValueError, match=r"data\.split_file=.*split must"):
        apply_table(file, rows, "s")
