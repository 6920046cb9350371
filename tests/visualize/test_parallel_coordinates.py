"""The picture of a sweep."""

from xml.etree import ElementTree

import pytest

from reidlit.visualize.parallel_coordinates import axis_of, parallel_coordinates


def test_numbers_lie_by_their_size_and_words_at_equal_distances():
    linear = axis_of("epochs", ["10", "20", "50", "10"])
    assert linear.positions == pytest.approx([0, 0.25, 1, 0])
    assert [text for _, text in linear.ticks] == ["10", "20", "50"]
    logarithmic = axis_of("lr", ["1e-4", "0.001", "0.01", "1e-3"])
    assert logarithmic.positions == pytest.approx([0, 0.5, 1, 0.5])
    words = axis_of("model", ["b", "a", "b", "10"])
    assert [text for _, text in words.ticks] == ["10", "a", "b"]
    assert words.positions == pytest.approx([5 / 6, 1 / 2, 5 / 6, 1 / 6])
    assert axis_of("seed", ["3", "3"]).positions == [0.5, 0.5]


def test_drawn_numbers_get_round_ticks():
    axis = axis_of("lr", ["1.7e-5", "0.0003", "0.08"])
    assert [text for _, text in axis.ticks] == ["0.0001", "0.001", "0.01"]
    assert all(0 < place < 1 for place, _ in axis.ticks)


def test_picture_holds_axes_labels_and_failed_jobs():
    settings = {"model": ["a < b", "c", "c"], "lr": ["0.1", "0.2", "0.1"]}
    picture = parallel_coordinates(settings, [50.0, None, 70.0], "mAP (%)")
    texts = {"".join(node.itertext()).strip() for node in ElementTree.fromstring(picture).iter() if "text" in node.tag}
    assert {"model", "lr", "mAP (%)", "a < b", "c", "0.1", "0.2", "52", "68", "failed"} <= texts
    assert picture == parallel_coordinates(settings, [50.0, None, 70.0], "mAP (%)")
    assert "failed" not in parallel_coordinates(settings, [50.0, 60.0, 70.0], "mAP (%)")
    # Each job has a line of its own, also those that share all their settings.
    lines = parallel_coordinates({"model": ["a", "a"]}, [1.0, 2.0], "mAP (%)")
    assert lines.count("stroke-width: 1.8") == 2


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no job has one"):
        parallel_coordinates({"seed": ["1", "2"]}, [None, None], "mAP (%)")
