"""Pipelines: order, reproducibility, input checks, and the recipes in conf/transforms."""

import pickle
import random
import re
from concurrent.futures import ThreadPoolExecutor

import albumentations
import numpy as np
import pytest
import torch
import torchvision
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from helpers.transforms import IMAGE, RAMP, applied_params, donor
from reidlit.data.transforms import (
    PadCrop,
    Pipeline,
    Random2DTranslation,
    RandomErasing,
    RandomPatch,
    Resize,
    resize,
    select,
)

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


class TestPipeline:
    def test_steps_run_in_the_order_of_the_list(self):
        library = {"erase": RandomErasing(fill=(255, 254, 253), p=1), "flip": albumentations.HorizontalFlip(p=1)}
        for names, mirrored in ((["flip", "erase"], False), (["erase", "flip"], True)):
            pipeline = select(library, names)
            erased = (pipeline(RAMP, 3) == (255, 254, 253)).all(-1)
            top, left, rows, columns = pipeline.transforms[names.index("erase")].get_applied_params()["box"]
            assert 2 * left + columns != 128  # off-center, otherwise the mirror image would look the same
            expected = np.zeros((256, 128), bool)
            expected[top : top + rows, left : left + columns] = True
            assert (erased == (expected[:, ::-1] if mirrored else expected)).all()

    def test_step_may_occur_twice(self):
        flip = {"flip": albumentations.HorizontalFlip(p=1)}
        assert (select(flip, ["flip", "flip"])(RAMP, 0) == RAMP).all()

    def test_result_depends_only_on_the_seed(self):
        expected = [ALL(IMAGE, seed, donor) for seed in range(20)]
        for seed in reversed(range(20)):
            assert (ALL(IMAGE, seed, donor) == expected[seed]).all()
        rebuilt = select(LIBRARY, list(LIBRARY))
        assert (rebuilt(IMAGE, 7, donor) == expected[7]).all()
        assert len({image.tobytes() for image in expected}) == 20

    def test_seeds_of_any_size_and_sign_differ(self):
        seeds = [0, 1, -1, 2, -2, 2**64, -(2**64), 2**64 + 1, np.int64(5)]
        assert len({ALL(IMAGE, seed, donor).tobytes() for seed in seeds}) == len(seeds)
        assert (ALL(IMAGE, np.int64(5), donor) == ALL(IMAGE, 5, donor)).all()

    def test_results_without_a_seed_differ(self):
        assert len({ALL(IMAGE, None, donor).tobytes() for _ in range(10)}) == 10

    def test_survives_pickling(self):
        """In a spawned worker, the steps must still share the generators that are reseeded."""
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

    def test_albumentations_steps_are_reproducible(self):
        """Single transforms and compositions of albumentations depend only on the seed."""
        steps = [
            albumentations.OneOf([albumentations.GaussNoise(p=1), albumentations.GaussianBlur(p=1)], p=0.9),
            albumentations.CoarseDropout(fill="random", p=0.9),
            albumentations.ElasticTransform(p=0.9),
        ]
        pipeline = Pipeline(steps)
        expected = [pipeline(IMAGE, seed) for seed in range(8)]
        copy = pickle.loads(pickle.dumps(pipeline))
        assert all((copy(IMAGE, seed) == expected[seed]).all() for seed in reversed(range(8)))

    def test_global_generators_are_neither_read_nor_advanced(self):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        expected = [ALL(IMAGE, seed, donor) for seed in range(20)]
        assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
        random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
        assert all((ALL(IMAGE, seed, donor) == expected[seed]).all() for seed in range(20))

    @pytest.mark.parametrize("name", ["resize", "random_crop", "pad_crop", "random_patch", "random_erase"])
    def test_augment_matches_an_albumentations_call(self, name):
        pipeline = select(LIBRARY, [name])
        step = pipeline.transforms[0]
        for seed in range(20):
            expected = pipeline(RAMP, seed, donor)
            pipeline._reseed(seed)
            assert (step(image=RAMP, donor=donor)["image"] == expected).all()

    def test_input_is_not_modified(self):
        image = RAMP.copy()
        image.flags.writeable = False
        for seed in range(40):
            result = ALL(image, seed, donor)
            assert result.dtype == np.uint8
            assert result.shape == (256, 128, 3)
            assert result.flags.c_contiguous
        assert (image == RAMP).all()

    def test_pipelines_in_threads_are_independent(self):
        copies = [select(LIBRARY, list(LIBRARY)) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda p: [p(IMAGE, seed, donor).tobytes() for seed in range(20)], copies))
        assert results[0] == results[1] == [ALL(IMAGE, seed, donor).tobytes() for seed in range(20)]

    @pytest.mark.parametrize(
        "image",
        [IMAGE.astype(np.float32), IMAGE[..., 0], IMAGE[..., :2], IMAGE[:0], IMAGE[None]],
        ids=["float", "gray", "two channels", "empty", "batch"],
    )
    def test_invalid_image_is_rejected(self, image):
        with pytest.raises(ValueError, match=rf"^image is {image.dtype} {re.escape(str(image.shape))}"):
            ALL(image, 0, donor)

    def test_invalid_step_is_rejected(self):
        with pytest.raises(ValueError, match=r"transforms.*<lambda>"):
            Pipeline([lambda image: image])

    def test_step_that_returns_float_is_rejected(self):
        with pytest.raises(ValueError, match=r"transforms.*float32 \(128, 64, 3\)"):
            Pipeline([albumentations.Normalize()])(IMAGE, 0)

    def test_missing_donor_is_rejected(self):
        with pytest.raises(ValueError, match="donor=None"):
            ALL(IMAGE, 0)
        nested = Pipeline([albumentations.OneOf([RandomPatch(p=1)], p=1)])
        with pytest.raises(ValueError, match=r"RandomPatch.*\bdonor\b"):
            nested(IMAGE, 0)
        assert not select(LIBRARY, ["resize"]).needs_donor


class TestSelect:
    def test_unknown_name_is_rejected(self):
        with pytest.raises(ValueError, match=r"\['randm_flip'\].*'random_flip'"):
            select(LIBRARY, ["resize", "randm_flip"])

    def test_string_is_rejected(self):
        with pytest.raises(ValueError, match="names='resize'"):
            select(LIBRARY, "resize")


def test_flips_are_random_and_independent():
    flipped = [
        params is not None for params in applied_params(albumentations.HorizontalFlip(p=0.5), 4000, RAMP[:8, :8])
    ]
    assert abs(np.mean(flipped) - 0.5) < 0.04
    agreement = np.mean(np.array(flipped[1:]) == flipped[:-1])  # consecutive seeds are independent
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
    def test_recipe_builds_pipeline(self, composed, recipe, train):
        library, cfg = composed(recipe)
        pipeline = select(library, cfg.train)
        assert " ".join(type(step).__name__ for step in pipeline.transforms) == train
        assert pipeline(IMAGE, 0).shape == (256, 128, 3)
        assert (select(library, cfg.test)(IMAGE) == resize(IMAGE, 256, 128, exact=True)).all()

    def test_steps_can_be_overridden(self, composed):
        names = "[resize,random_flip,random_crop,random_patch,color_jitter,random_erase]"
        library, cfg = composed("default", f"transforms.train={names}", "transforms.random_erase.fill=random")
        assert select(library, cfg.train)(IMAGE, 0, donor).shape == (256, 128, 3)
        assert library["random_erase"].fill is None

    def test_color_jitter_matches_torchvision(self, composed):
        step = composed("default")[0]["color_jitter"]
        assert (step.brightness, step.contrast, step.saturation, step.hue) == ((0.8, 1.2), (0.85, 1.15), (1, 1), (0, 0))
        functional = torchvision.transforms.functional
        for seed, params in enumerate(applied_params(step, 20, IMAGE)):
            expected = Image.fromarray(IMAGE)
            for i in params["order"]:
                if i < 2:
                    adjust = (functional.adjust_brightness, functional.adjust_contrast)[i]
                    expected = adjust(expected, params[("brightness", "contrast")[i]])
            assert np.abs(Pipeline([step])(IMAGE, seed) - np.asarray(expected).astype(int)).max() <= 2
