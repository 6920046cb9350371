"""Faces made unrecognisable."""

import numpy as np
import pytest

from reidlit.visualize.faces import blurred, blurring


def test_nothing_fine_is_left_of_the_top_and_the_rest_stays():
    image = np.random.default_rng(0).integers(0, 256, (128, 64, 3), dtype=np.uint8)
    before = image.copy()
    found = blurred(image, 0.25)
    assert np.array_equal(image, before)
    assert np.array_equal(found[32:], image[32:])
    steps = np.abs(np.diff(found[:32].astype(int), axis=1))
    assert steps.max() < 12  # of noise, whose neighbours differ by 85 on average
    assert found[:32].std() > 0  # its colours are there


def test_a_reader_blurs_what_it_reads():
    image = np.zeros((40, 20, 3), np.uint8)
    image[0, 0] = 255
    assert blurring(lambda path: {"a.jpg": image}[path])("a.jpg").max() < 255


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_share_is_checked(share):
    with pytest.raises(ValueError, match=f"share={share}"):
        blurred(np.zeros((4, 4, 3), np.uint8), share)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 200, 3)])
def test_tiny_images(shape):
    assert blurred(np.full(shape, 7, np.uint8)).tolist() == np.full(shape, 7).tolist()
