"""Blurring of faces."""

import numpy as np
import pytest

from reidlit.visualize.faces import blurred, blurring


def test_top_is_blurred_and_the_rest_is_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (128, 64, 3), dtype=np.uint8)
    before = image.copy()
    result = blurred(image, 0.25)
    assert np.array_equal(image, before)
    assert np.array_equal(result[32:], image[32:])
    steps = np.abs(np.diff(result[:32].astype(int), axis=1))
    assert steps.max() < 12  # neighboring pixels of the noise differ by 85 on average
    assert result[:32].std() > 0  # the colors remain


def test_blurring_wraps_a_reader():
    image = np.zeros((40, 20, 3), np.uint8)
    image[0, 0] = 255
    assert blurring(lambda path: {"a.jpg": image}[path])("a.jpg").max() < 255


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1])
def test_invalid_fraction_is_refused(fraction):
    with pytest.raises(ValueError, match=f"fraction={fraction}"):
        blurred(np.zeros((4, 4, 3), np.uint8), fraction)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 200, 3)])
def test_tiny_images_are_blurred(shape):
    assert blurred(np.full(shape, 7, np.uint8)).tolist() == np.full(shape, 7).tolist()
