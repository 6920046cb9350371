"""Enlarging of images compared with Pillow."""

import numpy as np
import pytest
from PIL import Image

from reidlit.data.pillow_resize import enlarge


def pillow(image, height, width):
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def test_matches_pillow_bit_for_bit():
    rng = np.random.default_rng(0)
    for _ in range(300):
        old_size = rng.integers(1, 150, 2)
        height, width = (old_size + rng.integers(0, 200, 2)).tolist()
        image = rng.integers(0, 256, (*old_size, 3), dtype=np.uint8)
        np.testing.assert_array_equal(enlarge(image, height, width), pillow(image, height, width))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (128, 64), (256, 128)])
@pytest.mark.parametrize("value", [0, 255])
def test_constant_images_stay_constant(size, value):
    image = np.full((*size, 3), value, np.uint8)
    assert (enlarge(image, 256, 128) == value).all()
    assert (enlarge(image, *size) == image).all()


def test_accepts_views_and_read_only_images():
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    expected = pillow(np.ascontiguousarray(image[::-1, ::2]), 60, 40)
    image.flags.writeable = False
    np.testing.assert_array_equal(enlarge(image[::-1, ::2], 60, 40), expected)
