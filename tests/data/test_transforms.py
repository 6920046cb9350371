"""Augmentation: order, reproducibility, distributions, parity with Pillow and torchvision."""

import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import albumentations
import cv2
import numpy as np
import pytest
import torch
import torchvision
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from reidlit.data.pipeline import Pipeline, select
from reidlit.data.transforms import PadCrop, Random2DTranslation, RandomErasing, RandomPatch, Resize, resize

RNG = np.random.default_rng(0)
# Noise, blurred: as hard for a resizing filter as a photograph
IMAGE = cv2.GaussianBlur(RNG.integers(0, 256, (128, 64, 3), np.uint8), (0, 0), 1.0)
OTHER = np.full((90, 40, 3), 200, np.uint8)
RAMP = np.stack(
    [np.arange(256)[:, None] + np.zeros((1, 128)), np.zeros((256, 1)) + np.arange(128), np.full((256, 128), 9)], -1
)
RAMP = RAMP.astype(np.uint8)  # a pixel's first two values say where it came from


def donor(rng):
    return np.full((90, 40, 3), rng.randrange(1, 256), np.uint8)


LIBRARY = {
    "resize": Resize(256, 128),
    "random_flip": albumentations.HorizontalFlip(p=0.5),
    "random_crop": Random2DTranslation(256, 128),
    "pad_crop": PadCrop(10),
    "random_patch": RandomPatch(),
    "color_jitter": albumentations.ColorJitter(brightness=0.2, contrast=0.15, saturation=0, hue=0, p=1),
    "random_erase": RandomErasing(fill="random"),
}
ALL = select(LIBRARY, list(LIBRARY))


def params(transform, count, image=RAMP):
    """The parameters of `count` applications under the seeds 0, 1, 2, ..., None where there was none."""
    pipeline = Pipeline([transform])
    drawn = []
    for seed in range(count):
        pipeline(image, seed, donor)
        drawn.append(pipeline.transforms[0].get_applied_params() or None)
    return drawn


class TestPipeline:
    def test_order_is_that_of_the_list(self):
        library = {"erase": RandomErasing(fill=(255, 254, 253), p=1), "flip": albumentations.HorizontalFlip(p=1)}
        for names, mirrored in ((["flip", "erase"], False), (["erase", "flip"], True)):
            pipeline = select(library, names)
            erased = (pipeline(RAMP, 3) == (255, 254, 253)).all(-1)
            top, left, rows, columns = pipeline.transforms[names.index("erase")].get_applied_params()["box"]
            assert 2 * left + columns != 128  # off the centre, or a mirror image would look the same
            expected = np.zeros((256, 128), bool)
            expected[top : top + rows, left : left + columns] = True
            assert (erased == (expected[:, ::-1] if mirrored else expected)).all()

    def test_a_step_may_come_twice(self):
        flip = {"flip": albumentations.HorizontalFlip(p=1)}
        assert (select(flip, ["flip", "flip"])(RAMP, 0) == RAMP).all()

    def test_seed_decides_alone(self):
        expected = [ALL(IMAGE, seed, donor) for seed in range(20)]
        for seed in reversed(range(20)):
            assert (ALL(IMAGE, seed, donor) == expected[seed]).all()
        again = select(LIBRARY, list(LIBRARY))
        assert (again(IMAGE, 7, donor) == expected[7]).all()
        assert len({image.tobytes() for image in expected}) == 20

    def test_seeds_of_any_size_and_sign_differ(self):
        seeds = [0, 1, -1, 2, -2, 2**64, -(2**64), 2**64 + 1, np.int64(5)]
        assert len({ALL(IMAGE, seed, donor).tobytes() for seed in seeds}) == len(seeds)
        assert (ALL(IMAGE, np.int64(5), donor) == ALL(IMAGE, 5, donor)).all()

    def test_no_seed_differs_every_time(self):
        assert len({ALL(IMAGE, None, donor).tobytes() for _ in range(10)}) == 10

    def test_survives_pickling(self):
        """As a spawned worker gets it: the steps must still share the generators that are reseeded."""
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            copy = pickle.loads(pickle.dumps(ALL, protocol))
            for seed in range(6):
                assert (copy(IMAGE, seed, donor) == ALL(IMAGE, seed, donor)).all()

    def test_pipelines_of_one_library_are_independent(self):
        first = select(LIBRARY, ["resize", "random_erase"])
        expected = first(IMAGE, 4)
        second = select(LIBRARY, ["random_erase"])
        second(IMAGE, 5)
        assert (first(IMAGE, 4) == expected).all()

    def test_steps_without_our_own_code(self):
        """Any albumentations transform is reproducible, and so is a composition."""
        steps = [
            albumentations.OneOf([albumentations.GaussNoise(p=1), albumentations.GaussianBlur(p=1)], p=0.9),
            albumentations.CoarseDropout(fill="random", p=0.9),
            albumentations.ElasticTransform(p=0.9),
        ]
        pipeline = Pipeline(steps)
        expected = [pipeline(IMAGE, seed) for seed in range(8)]
        copy = pickle.loads(pickle.dumps(pipeline))
        assert all((copy(IMAGE, seed) == expected[seed]).all() for seed in reversed(range(8)))

    def test_global_generators_are_neither_read_nor_moved(self):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        expected = [ALL(IMAGE, seed, donor) for seed in range(20)]
        assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
        random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
        assert all((ALL(IMAGE, seed, donor) == expected[seed]).all() for seed in range(20))

    @pytest.mark.parametrize("name", ["resize", "random_crop", "pad_crop", "random_patch", "random_erase"])
    def test_short_way_equals_an_albumentations_call(self, name):
        pipeline = select(LIBRARY, [name])
        step = pipeline.transforms[0]
        for seed in range(20):
            expected = pipeline(RAMP, seed, donor)
            pipeline._reseed(seed)
            assert (step(image=RAMP, donor=donor)["image"] == expected).all()

    def test_input_is_not_written_to(self):
        image = RAMP.copy()
        image.flags.writeable = False
        for seed in range(40):
            result = ALL(image, seed, donor)
            assert result.dtype == np.uint8
            assert result.shape == (256, 128, 3)
            assert result.flags.c_contiguous
        assert (image == RAMP).all()

    def test_threads_have_their_own_copies(self):
        copies = [select(LIBRARY, list(LIBRARY)) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda p: [p(IMAGE, seed, donor).tobytes() for seed in range(20)], copies))
        assert results[0] == results[1] == [ALL(IMAGE, seed, donor).tobytes() for seed in range(20)]

    @pytest.mark.parametrize(
        "image",
        [IMAGE.astype(np.float32), IMAGE[..., 0], IMAGE[..., :2], IMAGE[:0], IMAGE[None]],
        ids=["float", "gray", "two channels", "empty", "batch"],
    )
    def test_wrong_image(self, image):
        with pytest.raises(ValueError, match=r"image is .* must be uint8"):
            ALL(image, 0, donor)

    def test_wrong_step(self):
        with pytest.raises(ValueError, match="no albumentations transform"):
            Pipeline([lambda image: image])

    def test_a_step_that_leaves_uint8(self):
        with pytest.raises(ValueError, match=r"result of the transforms is float32 .* the model"):
            Pipeline([albumentations.Normalize()])(IMAGE, 0)

    def test_missing_donor(self):
        with pytest.raises(ValueError, match="donor is None"):
            ALL(IMAGE, 0)
        nested = Pipeline([albumentations.OneOf([RandomPatch(p=1)], p=1)])
        with pytest.raises(ValueError, match="without donor"):
            nested(IMAGE, 0)
        assert not select(LIBRARY, ["resize"]).needs_donor


class TestSelect:
    def test_unknown_name(self):
        with pytest.raises(ValueError, match=r"\['randm_flip'\].*'random_flip'"):
            select(LIBRARY, ["resize", "randm_flip"])

    def test_string(self):
        with pytest.raises(ValueError, match="must be a list"):
            select(LIBRARY, "resize")


class TestResize:
    @pytest.mark.parametrize("size", [(256, 128), (128, 64), (384, 128), (128, 65), (288, 144)])
    def test_enlarging_equals_pillow_within_one_level(self, size):
        expected = np.asarray(Image.fromarray(IMAGE).resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
        difference = np.abs(resize(IMAGE, *size) - expected)
        assert difference.max() <= 1
        assert (resize(IMAGE, *size, exact=True) == expected).all()
        assert (Pipeline([Resize(*size, exact=True)])(IMAGE) == expected).all()

    @pytest.mark.parametrize("size", [(64, 32), (127, 63), (256, 40), (100, 128)])
    def test_shrinking_equals_pillow(self, size):
        expected = np.asarray(Image.fromarray(IMAGE).resize(size[::-1], Image.Resampling.BILINEAR))
        assert (resize(IMAGE, *size) == expected).all()

    def test_no_aliasing(self):
        stripes = np.zeros((256, 128, 3), np.uint8)
        stripes[::2] = 255
        assert np.ptp(resize(stripes, 100, 128)[2:-2]) < 60
        assert np.ptp(cv2.resize(stripes, (128, 100))) > 200  # what this is about

    def test_step(self):
        assert (Pipeline([Resize(256, 128)])(IMAGE) == resize(IMAGE, 256, 128)).all()


class TestRandom2DTranslation:
    def test_always_the_right_size(self):
        for p in (0, 0.5, 1):
            pipeline = Pipeline([Random2DTranslation(256, 128, p)])
            assert {pipeline(IMAGE, seed).shape for seed in range(20)} == {(256, 128, 3)}

    def test_without_a_crop_it_resizes(self):
        assert (Pipeline([Random2DTranslation(256, 128, p=0)])(IMAGE, 0) == resize(IMAGE, 256, 128)).all()

    def test_is_a_crop_of_the_enlarged_image(self):
        pipeline = Pipeline([Random2DTranslation(256, 128, p=1)])
        large = resize(IMAGE, 288, 144)
        for seed in range(5):
            image = pipeline(IMAGE, seed)
            top, left = pipeline.transforms[0].get_applied_params()["offset"]
            assert (image == large[top : top + 256, left : left + 128]).all()

    def test_distribution(self):
        offsets = [drawn["offset"] for drawn in params(Random2DTranslation(64, 32), 4000, RAMP[:8, :8])]
        crops = np.array([offset for offset in offsets if offset])
        assert abs(len(crops) / 4000 - 0.5) < 0.04  # 5 sigma
        for axis, most in ((0, 8), (1, 4)):
            counts = np.bincount(crops[:, axis])
            assert len(counts) == most + 1
            assert np.abs(counts / len(crops) - 1 / (most + 1)).max() < 0.05


class TestPadCrop:
    def test_equals_padding_and_cropping(self):
        pipeline = Pipeline([PadCrop(10, fill=(7, 8, 9))])
        padded = np.full((276, 148, 3), (7, 8, 9), np.uint8)
        padded[10:-10, 10:-10] = RAMP
        for seed in range(30):
            image = pipeline(RAMP, seed)
            drawn = pipeline.transforms[0].get_applied_params()
            top, left = 10 - drawn["down"], 10 - drawn["right"]
            assert (image == padded[top : top + 256, left : left + 128]).all()

    def test_distribution(self):
        drawn = params(PadCrop(2), 3000, RAMP[:8, :8])
        for name in ("down", "right"):
            values, counts = np.unique([d[name] for d in drawn], return_counts=True)
            assert values.tolist() == [-2, -1, 0, 1, 2]
            assert np.abs(counts / 3000 - 0.2).max() < 0.04

    def test_too_wide(self):
        with pytest.raises(ValueError, match="pad is 64"):
            Pipeline([PadCrop(64)])(IMAGE, 0)


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


@pytest.mark.parametrize("height", [0, -1, 2.5])
@pytest.mark.parametrize("step", [Resize, Random2DTranslation])
def test_sizes_are_checked(step, height):
    with pytest.raises(ValueError, match="height is"):
        step(height, 128)


def test_flip_distribution():
    flipped = [drawn is not None for drawn in params(albumentations.HorizontalFlip(p=0.5), 4000, RAMP[:8, :8])]
    assert abs(np.mean(flipped) - 0.5) < 0.04
    agreement = np.mean(np.array(flipped[1:]) == flipped[:-1])  # neighbouring seeds are independent
    assert abs(agreement - 0.5) < 0.04


class TestRecipes:
    @pytest.fixture
    def composed(self, pytestconfig):
        def make(recipe, *overrides):
            with initialize_config_dir(str(pytestconfig.rootpath / "conf"), version_base="1.3"):
                cfg = compose(f"transforms/{recipe}", ["+data.height=256", "+data.width=128", *overrides])
            steps = instantiate(cfg.transforms)
            return {name: step for name, step in steps.items() if name not in {"train", "test"}}, cfg.transforms

        return make

    @pytest.mark.parametrize(
        ("recipe", "train"),
        [
            ("default", "Resize HorizontalFlip"),
            ("flip_crop_erase", "Resize HorizontalFlip Random2DTranslation RandomErasing"),
            ("pad_crop_erase", "Resize HorizontalFlip PadCrop RandomErasing"),
            ("flip_jitter", "Resize HorizontalFlip ColorJitter"),
            ("none", "Resize"),
            ("library", "Resize"),
        ],
    )
    def test_recipe(self, composed, recipe, train):
        library, cfg = composed(recipe)
        pipeline = select(library, cfg.train)
        assert " ".join(type(step).__name__ for step in pipeline.transforms) == train
        assert pipeline(IMAGE, 0).shape == (256, 128, 3)
        assert (select(library, cfg.test)(IMAGE) == resize(IMAGE, 256, 128, exact=True)).all()

    def test_command_line(self, composed):
        names = "[resize,random_flip,random_crop,random_patch,color_jitter,random_erase]"
        library, cfg = composed("default", f"transforms.train={names}", "transforms.random_erase.fill=random")
        assert select(library, cfg.train)(IMAGE, 0, donor).shape == (256, 128, 3)
        assert library["random_erase"].fill is None

    def test_color_jitter_is_torchreids(self, composed):
        step = composed("default")[0]["color_jitter"]
        assert (step.brightness, step.contrast, step.saturation, step.hue) == ((0.8, 1.2), (0.85, 1.15), (1, 1), (0, 0))
        theirs = torchvision.transforms.functional
        for seed, drawn in enumerate(params(step, 20, IMAGE)):
            expected = Image.fromarray(IMAGE)
            for i in drawn["order"]:
                if i < 2:
                    adjust = (theirs.adjust_brightness, theirs.adjust_contrast)[i]
                    expected = adjust(expected, drawn[("brightness", "contrast")[i]])
            assert np.abs(Pipeline([step])(IMAGE, seed) - np.asarray(expected).astype(int)).max() <= 2
