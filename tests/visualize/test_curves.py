"""Curves as SVG."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from reidlit.visualize.curves import camera_heat_map, cmc_curve, distance_histogram, roc_curve, training_curve

HISTOGRAM = {"edges": [0, 1, 2, 3], "positive": [3, 1, 0], "negative": [0, 10, 90]}
PAIRS = {"q_camids": [0, 2], "g_camids": [0, 1, 2], "mAP": [[None, 0.25, 0.5], [0.75, 1.0, None]]}
PLOTS = {
    "cmc": lambda: cmc_curve({"market1501": np.array([1, 1, 2, 9]), "msmt17": np.array([1, 3])}),
    "roc": lambda: roc_curve({"a": {"fpr": [1e-3, 1e-2, 1], "tpr": [None, 0.5, 1]}}),
    "histogram": lambda: distance_histogram(HISTOGRAM, threshold=1.5),
    "cameras": lambda: camera_heat_map(PAIRS),
    "training": lambda: training_curve("loss", {"train/loss": ([0, 10], [3.0, 1.0]), "train/softmax": ([0], [2.0])}),
}


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def points(svg, color):
    """Return the points of the line in a color, in SVG units."""
    path = next(
        element.get("d")
        for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}path")
        if f"stroke: {color}" in (element.get("style") or "") and "fill: none" in element.get("style")
    )
    return np.array([[float(x) for x in pair] for pair in re.findall(r"([\d.]+) ([\d.]+)", path)])


@pytest.mark.parametrize("name", PLOTS)
def test_text_and_axes_use_the_color_of_the_page(name):
    svg = PLOTS[name]()
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert svg == PLOTS[name]()  # no date, no random identifiers
    root = ET.fromstring(svg)
    assert root.tag.endswith("svg")
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        style = element.get("style") or ""
        assert name == "cameras" or "currentColor" in style or "fill" in (element.get("fill") or "fill")
    assert "#010203" not in svg


def test_cmc_curve_has_expected_heights():
    line = points(cmc_curve({"a": np.array([1, 1, 2, 9])}, ranks=10), "#3b7dd8")
    assert len(line) == 10
    height = (line[0, 1] - line[:, 1]) / (line[0, 1] - line[-1, 1])  # the y axis of an SVG points down
    expected = (np.array([50, 75, 75, 75, 75, 75, 75, 75, 100, 100]) - 50) / 50
    np.testing.assert_allclose(height, expected, atol=1e-3)


def test_legend_appears_for_several_curves():
    assert {"market1501", "msmt17"} <= set(texts(PLOTS["cmc"]()))
    assert "a" not in texts(PLOTS["roc"]())
    assert {"same person", "different persons", "equal error rate"} <= set(texts(PLOTS["histogram"]()))
    assert {"train/loss", "train/softmax"} <= set(texts(PLOTS["training"]()))


def test_cameras_are_numbered_from_one_and_missing_pairs_are_empty():
    shown = texts(PLOTS["cameras"]())
    assert sorted(text for text in shown if text in ("25", "50", "75", "100")) == ["100", "25", "50", "75"]
    assert [text for text in shown if text in ("1", "2", "3")] == ["1", "2", "3", "1", "3"]
