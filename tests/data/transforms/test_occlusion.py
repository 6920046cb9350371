"""Random erasing and random patches: content and distribution."""

import numpy as np
import pytest

from helpers.transforms import OTHER, RAMP, applied_params, donor
from reidlit.data.transforms import Pipeline, RandomErasing, RandomPatch


class TestRandomErasing:
    def test_fills_only_the_rectangle(self):
        pipeline = Pipeline([RandomErasing(fill=(255, 254, 253), p=1)])
        for seed in range(30):
            image = pipeline(RAMP, seed)
            top, left, rows, columns = pipeline.transforms[0].get_applied_params()["box"]
            expected = RAMP.copy()
            expected[top : top + rows, left : left + columns] = (255, 254, 253)
            assert (image == expected).all()

    def test_random_fill_is_uniform_noise(self):
        pipeline = Pipeline([RandomErasing(fill="random", p=1, scale=(0.3, 0.3), ratio=(2, 2))])
        image = pipeline(np.zeros((256, 128, 3), np.uint8), 0)
        top, left, rows, columns = pipeline.transforms[0].get_applied_params()["box"]
        noise = image[top : top + rows, left : left + columns].astype(float)
        assert abs(noise.mean() - 127.5) < 3
        assert abs(noise.std() - 73.9) < 3

    def test_distribution_matches_the_paper(self):
        """Compare areas and ratios for 256 x 128 images with a naive rejection loop."""
        all_params = applied_params(RandomErasing(), 4000)
        boxes = np.array([params["box"] for params in all_params if params])
        assert abs(len(boxes) / 4000 - 0.5) < 0.04
        areas, ratios = boxes[:, 2] * boxes[:, 3] / 256 / 128, boxes[:, 2] / boxes[:, 3]
        assert areas.min() > 0.015
        assert 0.38 < areas.max() < 0.405  # at most 0.15 with albumentations' Erasing
        assert 0.25 < ratios.min() < 0.4
        assert 3 < ratios.max() < 3.6
        rng, reference = np.random.default_rng(1), []
        while len(reference) < 4000:
            area, ratio = rng.uniform(0.02, 0.4) * 256 * 128, rng.uniform(0.3, 1 / 0.3)
            if (area * ratio) ** 0.5 < 255.5 and (area / ratio) ** 0.5 < 127.5:
                reference.append((area / 256 / 128, ratio))
        for actual, expected in ((areas, np.array(reference)[:, 0]), (ratios, np.array(reference)[:, 1])):
            for q in (0.1, 0.5, 0.9):
                assert abs(np.quantile(actual, q) / np.quantile(expected, q) - 1) < 0.08
        positions = boxes[:, 0] / (256 - boxes[:, 2]), boxes[:, 1] / (128 - boxes[:, 3])
        assert all(abs(position.mean() - 0.5) < 0.035 for position in positions)

    def test_image_is_unchanged_if_no_rectangle_fits(self):
        assert (Pipeline([RandomErasing(p=1, scale=(0.9, 0.9), ratio=(9, 9))])(RAMP, 0) == RAMP).all()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"scale": (0.4, 0.02)}, r"scale=\(0\.4, 0\.02\)"),
            ({"scale": (0.1, 1.5)}, r"scale=\(0\.1, 1\.5\)"),
            ({"scale": [0.1]}, r"scale=\[0\.1\]"),
            ({"ratio": (0, 1)}, r"ratio=\(0, 1\)"),
            ({"fill": "mean"}, "fill='mean'"),
            ({"fill": (0.4, 0.4, 0.4)}, r"fill=\(0\.4, 0\.4, 0\.4\)"),
            ({"fill": (1, 2)}, r"fill=\(1, 2\)"),
            ({"fill": (1, 2, 256)}, r"fill=\(1, 2, 256\)"),
            ({"p": 1.5}, "p"),
        ],
    )
    def test_invalid_arguments_are_rejected(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            RandomErasing(**arguments)


class TestRandomPatch:
    def test_pastes_a_crop_of_the_donor(self):
        pipeline = Pipeline([RandomPatch(p=1, p_rotate=0)])
        black = np.zeros((256, 128, 3), np.uint8)
        for seed in range(30):
            image = pipeline(black, seed, lambda _: OTHER)
            patch = pipeline.transforms[0].get_applied_params()["patch"]
            assert set(np.unique(image)) == {0, 200}
            assert (image == 200).all(-1).sum() == patch.shape[0] * patch.shape[1]

    def test_flip_and_rotation(self):
        for p_flip, mirrored in ((0, False), (1, True)):
            (params,) = applied_params(RandomPatch(p=1, p_rotate=0, p_flip=p_flip), 1)[:1]
            pipeline = Pipeline([RandomPatch(p=1, p_rotate=0, p_flip=p_flip)])
            pipeline(RAMP, 0, lambda _: RAMP)
            patch = pipeline.transforms[0].get_applied_params()["patch"].astype(int)
            assert patch.shape == params["patch"].shape
            assert (np.diff(patch[0, :, 1]) == (-1 if mirrored else 1)).all()
        rotated = applied_params(RandomPatch(p=1, p_rotate=1, scale=(0.3, 0.3), ratio=(2, 2)), 60)
        has_black_corner = [params["patch"][0, 0, 0] == 0 for params in rotated]
        assert sum(has_black_corner) >= 50  # the corner stays covered for angles near 0

    def test_distribution(self):
        all_params = applied_params(RandomPatch(), 2000)
        patches = [params["patch"] for params in all_params if params]
        assert abs(len(patches) / 2000 - 0.5) < 0.06
        areas = np.array([p.shape[0] * p.shape[1] for p in patches]) / 256 / 128
        ratios = np.array([p.shape[0] / p.shape[1] for p in patches])
        assert 0.008 < areas.min() < 0.03
        assert 0.45 < areas.max() < 0.51
        assert ratios.max() > 8
        assert ratios.min() < 0.6

    def test_donor_receives_the_seeded_generator(self):
        pipeline = Pipeline([RandomPatch(p=1)])
        assert (pipeline(RAMP, 3, donor) == pipeline(RAMP, 3, donor)).all()

    def test_invalid_donor_image_is_rejected(self):
        with pytest.raises(ValueError, match=r"donor.*float64 \(90, 40, 3\)"):
            Pipeline([RandomPatch(p=1)])(RAMP, 0, lambda _: OTHER / 255)

    @pytest.mark.parametrize(
        "arguments", [{"p_flip": 2}, {"p_rotate": -1}, {"limit": -1}, {"limit": 0.5}, {"scale": (0, 1)}]
    )
    def test_invalid_arguments_are_rejected(self, arguments):
        with pytest.raises(ValueError, match=rf"\b{next(iter(arguments))}="):
            RandomPatch(**arguments)
