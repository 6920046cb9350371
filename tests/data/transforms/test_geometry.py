"""Resizing, shifting and cropping: agreement with Pillow, and distributions."""

import cv2
import numpy as np
import pytest
from PIL import Image

from helpers.transforms import IMAGE, RAMP, applied_params
from reidlit.data.transforms import PadCrop, Pipeline, Random2DTranslation, Resize, resize


class TestResize:
    @pytest.mark.parametrize("size", [(256, 128), (128, 64), (384, 128), (128, 65), (288, 144)])
    def test_enlarging_matches_pillow_within_one_level(self, size):
        expected = np.asarray(Image.fromarray(IMAGE).resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
        difference = np.abs(resize(IMAGE, *size) - expected)
        assert difference.max() <= 1
        assert (resize(IMAGE, *size, exact=True) == expected).all()
        assert (Pipeline([Resize(*size, exact=True)])(IMAGE) == expected).all()

    @pytest.mark.parametrize("size", [(64, 32), (127, 63), (256, 40), (100, 128)])
    def test_shrinking_matches_pillow(self, size):
        expected = np.asarray(Image.fromarray(IMAGE).resize(size[::-1], Image.Resampling.BILINEAR))
        assert (resize(IMAGE, *size) == expected).all()

    def test_shrinking_does_not_alias(self):
        stripes = np.zeros((256, 128, 3), np.uint8)
        stripes[::2] = 255
        assert np.ptp(resize(stripes, 100, 128)[2:-2]) < 60
        assert np.ptp(cv2.resize(stripes, (128, 100))) > 200  # OpenCV aliases

    def test_step_matches_function(self):
        assert (Pipeline([Resize(256, 128)])(IMAGE) == resize(IMAGE, 256, 128)).all()


class TestRandom2DTranslation:
    def test_result_always_has_the_size(self):
        for p in (0, 0.5, 1):
            pipeline = Pipeline([Random2DTranslation(256, 128, p)])
            assert {pipeline(IMAGE, seed).shape for seed in range(20)} == {(256, 128, 3)}

    def test_resizes_without_a_crop(self):
        assert (Pipeline([Random2DTranslation(256, 128, p=0)])(IMAGE, 0) == resize(IMAGE, 256, 128)).all()

    def test_result_is_a_crop_of_the_enlarged_image(self):
        pipeline = Pipeline([Random2DTranslation(256, 128, p=1)])
        large = resize(IMAGE, 288, 144)
        for seed in range(5):
            image = pipeline(IMAGE, seed)
            top, left = pipeline.transforms[0].get_applied_params()["offset"]
            assert (image == large[top : top + 256, left : left + 128]).all()

    def test_offsets_are_uniform(self):
        offsets = [params["offset"] for params in applied_params(Random2DTranslation(64, 32), 4000, RAMP[:8, :8])]
        crops = np.array([offset for offset in offsets if offset])
        assert abs(len(crops) / 4000 - 0.5) < 0.04  # 5 sigma
        for axis, max_offset in ((0, 8), (1, 4)):
            counts = np.bincount(crops[:, axis])
            assert len(counts) == max_offset + 1
            assert np.abs(counts / len(crops) - 1 / (max_offset + 1)).max() < 0.05


class TestPadCrop:
    def test_matches_padding_and_cropping(self):
        pipeline = Pipeline([PadCrop(10, fill=(7, 8, 9))])
        padded = np.full((276, 148, 3), (7, 8, 9), np.uint8)
        padded[10:-10, 10:-10] = RAMP
        for seed in range(30):
            image = pipeline(RAMP, seed)
            params = pipeline.transforms[0].get_applied_params()
            top, left = 10 - params["down"], 10 - params["right"]
            assert (image == padded[top : top + 256, left : left + 128]).all()

    def test_shifts_are_uniform(self):
        all_params = applied_params(PadCrop(2), 3000, RAMP[:8, :8])
        for name in ("down", "right"):
            values, counts = np.unique([params[name] for params in all_params], return_counts=True)
            assert values.tolist() == [-2, -1, 0, 1, 2]
            assert np.abs(counts / 3000 - 0.2).max() < 0.04

    def test_pad_larger_than_the_image_is_rejected(self):
        with pytest.raises(ValueError, match=r"\bpad=64\b"):
            Pipeline([PadCrop(64)])(IMAGE, 0)


@pytest.mark.parametrize("height", [0, -1, 2.5])
@pytest.mark.parametrize("step", [Resize, Random2DTranslation])
def test_invalid_height_is_rejected(step, height):
    with pytest.raises(ValueError, match=rf"\bheight={height}\b"):
        step(height, 128)
