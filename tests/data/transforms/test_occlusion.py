"""Random rectangles: content and distribution."""

import numpy as np
import pytest

from helpers.transforms import OTHER, RAMP, donor, params
from reidlit.data.transforms import Pipeline, RandomErasing, RandomPatch


class TestRandomErasing:
    def test_rectangle_has_the_fill_and_nothing_else_changes(self):
        pipeline = Pipeline([RandomErasing(fill=(255, 254, 253), p=1)])
        for seed in range(30):
            image = pipeline(RAMP, seed)
            top, left, rows, columns = pipeline.transforms[0].get_applied_params()["box"]
            expected = RAMP.copy()
            expected[top : top + rows, left : left + columns] = (255, 254, 253)
            assert (image == expected).all()

    def test_noise(self):
        pipeline = Pipeline([RandomErasing(fill="random", p=1, scale=(0.3, 0.3), ratio=(2, 2))])
        image = pipeline(np.zeros((256, 128, 3), np.uint8), 0)
        top, left, rows, columns = pipeline.transforms[0].get_applied_params()["box"]
        noise = image[top : top + rows, left : left + columns].astype(float)
        assert abs(noise.mean() - 127.5) < 3
        assert abs(noise.std() - 73.9) < 3

    def test_distribution_is_the_papers(self):
        """Areas and ratios against a naive rejection loop of our own, 256 x 128."""
        drawn = params(RandomErasing(), 4000)
        boxes = np.array([d["box"] for d in drawn if d])
        assert abs(len(boxes) / 4000 - 0.5) < 0.04
        areas, ratios = boxes[:, 2] * boxes[:, 3] / 256 / 128, boxes[:, 2] / boxes[:, 3]
        assert areas.min() > 0.015
        assert 0.38 < areas.max() < 0.405  # albumentations' Erasing ends at 0.15
        assert 0.25 < ratios.min() < 0.4
        assert 3 < ratios.max() < 3.6
        rng, naive = np.random.default_rng(1), []
        while len(naive) < 4000:
            area, ratio = rng.uniform(0.02, 0.4) * 256 * 128, rng.uniform(0.3, 1 / 0.3)
            if (area * ratio) ** 0.5 < 255.5 and (area / ratio) ** 0.5 < 127.5:
                naive.append((area / 256 / 128, ratio))
        for ours, theirs in ((areas, np.array(naive)[:, 0]), (ratios, np.array(naive)[:, 1])):
            for q in (0.1, 0.5, 0.9):
                assert abs(np.quantile(ours, q) / np.quantile(theirs, q) - 1) < 0.08
        places = boxes[:, 0] / (256 - boxes[:, 2]), boxes[:, 1] / (128 - boxes[:, 3])
        assert all(abs(place.mean() - 0.5) < 0.035 for place in places)

    def test_nothing_fits(self):
        assert (Pipeline([RandomErasing(p=1, scale=(0.9, 0.9), ratio=(9, 9))])(RAMP, 0) == RAMP).all()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"scale": (0.4, 0.02)}, "scale is"),
            ({"scale": (0.1, 1.5)}, "scale is"),
            ({"scale": [0.1]}, "scale is"),
            ({"ratio": (0, 1)}, "ratio is"),
            ({"fill": "mean"}, "fill is 'mean'"),
            ({"fill": (0.4, 0.4, 0.4)}, "fill is"),
            ({"fill": (1, 2)}, "fill is"),
            ({"fill": (1, 2, 256)}, "fill is"),
            ({"p": 1.5}, "p"),
        ],
    )
    def test_errors(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            RandomErasing(**arguments)


class TestRandomPatch:
    def test_pastes_a_part_of_the_donor(self):
        pipeline = Pipeline([RandomPatch(p=1, p_rotate=0)])
        black = np.zeros((256, 128, 3), np.uint8)
        for seed in range(30):
            image = pipeline(black, seed, lambda _: OTHER)
            patch = pipeline.transforms[0].get_applied_params()["patch"]
            assert set(np.unique(image)) == {0, 200}
            assert (image == 200).all(-1).sum() == patch.shape[0] * patch.shape[1]

    def test_flip_and_rotation(self):
        for p_flip, mirrored in ((0, False), (1, True)):
            (drawn,) = params(RandomPatch(p=1, p_rotate=0, p_flip=p_flip), 1)[:1]
            pipeline = Pipeline([RandomPatch(p=1, p_rotate=0, p_flip=p_flip)])
            pipeline(RAMP, 0, lambda _: RAMP)
            patch = pipeline.transforms[0].get_applied_params()["patch"].astype(int)
            assert patch.shape == drawn["patch"].shape
            assert (np.diff(patch[0, :, 1]) == (-1 if mirrored else 1)).all()
        turned = params(RandomPatch(p=1, p_rotate=1, scale=(0.3, 0.3), ratio=(2, 2)), 60)
        corners = [d["patch"][0, 0, 0] == 0 for d in turned]
        assert sum(corners) >= 50  # black, but for angles near 0

    def test_distribution(self):
        drawn = params(RandomPatch(), 2000)
        patches = [d["patch"] for d in drawn if d]
        assert abs(len(patches) / 2000 - 0.5) < 0.06
        areas = np.array([p.shape[0] * p.shape[1] for p in patches]) / 256 / 128
        ratios = np.array([p.shape[0] / p.shape[1] for p in patches])
        assert 0.008 < areas.min() < 0.03
        assert 0.45 < areas.max() < 0.51
        assert ratios.max() > 8
        assert ratios.min() < 0.6

    def test_donor_draws_from_the_seeded_generator(self):
        pipeline = Pipeline([RandomPatch(p=1)])
        assert (pipeline(RAMP, 3, donor) == pipeline(RAMP, 3, donor)).all()

    def test_wrong_donor(self):
        with pytest.raises(ValueError, match="the donor's image is float64"):
            Pipeline([RandomPatch(p=1)])(RAMP, 0, lambda _: OTHER / 255)

    @pytest.mark.parametrize(
        "arguments", [{"p_flip": 2}, {"p_rotate": -1}, {"limit": -1}, {"limit": 0.5}, {"scale": (0, 1)}]
    )
    def test_errors(self, arguments):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            RandomPatch(**arguments)
