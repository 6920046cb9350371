"""Combinations of several datasets."""

import pytest

from helpers.datasets import draw, ids, loading
from reidlit.data.datasets.market1501 import Market1501
from reidlit.data.datasets.multi import Multi


def market(base, train, test, name="market1501", **changes):
    """Write a dataset in the layout of Market-1501 with the given file names."""
    for file in train:
        draw(base / "market1501" / "bounding_box_train" / file)
    for file in test:
        draw(base / "market1501" / "query" / file)
        draw(base / "market1501" / "bounding_box_test" / file.replace("_c1", "_c2"))
    return Market1501(str(base), **loading(name=name, **changes))


@pytest.fixture
def three(tmp_path):
    return [
        market(tmp_path / "a", ["0005_c1s1_1.jpg", "0005_c6s1_1.jpg", "0009_c2s1_1.jpg"], ["0001_c1s1_1.jpg"], "a"),
        market(tmp_path / "b", ["0005_c1s1_1.jpg", "0007_c4s1_1.jpg"], ["0002_c1s1_1.jpg", "0003_c1s1_1.jpg"], "b"),
        market(tmp_path / "c", ["0100_c3s1_1.jpg"], ["0004_c1s1_1.jpg"], "c"),
    ]


def test_labels_of_sources_do_not_collide(three, tmp_path):
    data = Multi(str(tmp_path), three, **loading())
    data.setup("fit")
    assert [s.dsetid for s in data.train] == [0, 0, 0, 1, 1, 2]
    assert ids(data.train) == [(0, 0), (0, 5), (4, 1), (5, 6), (7, 9), (8, 12)]
    assert len(data.pids) == 5
    batch = next(iter(data.train_dataloader()))
    assert batch["pid"].max() < 5


def test_targets_keep_their_labels_and_are_tested_separately(three, tmp_path):
    a, b, c = three
    data = Multi(str(tmp_path), [a, b], [b, c], **loading())
    data.setup("test")
    assert {name: (ids(sets.query), ids(sets.gallery)) for name, sets in data.test_sets.items()} == {
        "b": ([(2, 0), (3, 0)], [(2, 1), (3, 1)]),
        "c": ([(4, 0)], [(4, 1)]),
    }
    assert list(data.test_dataloader()) == ["b", "c"]
    assert data.name == "a+b"
    assert [part.name for part in data.parts] == ["a", "b", "c"]
    assert {name: tuple(actual) for name, actual, _ in data.verify()}["all sources/train"] == (4, 5, 5)
    assert list(Multi(str(tmp_path), [a, b], **loading()).eval_sets()) == ["a", "b"]


def test_combineall_adds_query_and_gallery_of_each_source(tmp_path):
    combineall = {"combineall": True}
    a = market(tmp_path / "a", ["0005_c1s1_1.jpg"], ["0001_c1s1_1.jpg", "0000_c1s1_1.jpg"], "a", **combineall)
    assert ids(a.training_samples()) == [(5, 0), (1, 0), (1, 1)]  # without background 0
    b = market(tmp_path / "b", ["0005_c1s1_1.jpg"], ["0002_c1s1_1.jpg"], "b", **combineall)
    data = Multi(str(tmp_path), [a, b], **loading(**combineall))
    assert ids(data.training_samples()) == [(4, 0), (0, 0), (0, 1), (8, 2), (5, 2), (5, 3)]


def test_training_images_of_targets_are_unlabelled(three, tmp_path):
    a, b, c = three
    data = Multi(str(tmp_path), [a], [b, c], load_train_targets=True, **loading())
    data.setup("fit")
    batches = list(data.target_dataloader())
    assert {label for batch in batches for label in batch["pid"].tolist()} == {-1}
    assert {number for batch in batches for number in batch["dsetid"].tolist()} <= {0, 1}
    assert sum(len(batch["pid"]) for batch in batches) == 2  # of three; an incomplete batch is dropped
    with pytest.raises(ValueError, match="load_train_targets=false"):
        Multi(str(tmp_path), [a], [b], **loading()).target_dataloader()
    with pytest.raises(ValueError, match=r"load_train_targets=true .*\['a'\]"):
        Multi(str(tmp_path), [a], [a, b], load_train_targets=True, **loading())


def test_views_of_image_are_adjacent(three, tmp_path):
    data = Multi(str(tmp_path), three, **loading(k_tfm=3))
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape[0] == 6
    index = batch["index"].tolist()
    assert index == [index[0]] * 3 + [index[3]] * 3
    assert index[0] != index[3]


def test_invalid_sources_raise(three, tmp_path):
    with pytest.raises(ValueError, match=r"data\.sources=\[\]"):
        Multi(str(tmp_path), [], **loading())
    with pytest.raises(ValueError, match=r"data\.sources=\['a', 'a'\]"):
        Multi(str(tmp_path), [three[0], three[0]], **loading())
