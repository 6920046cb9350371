"""Augmentation of uint8 images, where albumentations has no transform that does what the re-ID papers describe.

Images stay uint8; scaling and normalisation belong to the model, on the device. Every random choice is drawn from a
transform's own generators, which `Pipeline` seeds.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import albumentations
import cv2
import numpy as np
from PIL import Image

from reidlit.data.pillow_resize import enlarge

Array: TypeAlias = np.ndarray[Any, Any]
Donor: TypeAlias = Callable[[random.Random], Array]


def resize(image: Array, height: int, width: int, exact: bool = False) -> Array:
    """Resizes bilinearly, without aliasing, as Pillow does.

    Enlarging goes through OpenCV, which is within one gray level of Pillow and faster by far. Shrinking, on
    either axis, goes through Pillow itself: OpenCV's bilinear filter skips pixels there, and its area filter, besides
    being another filter, does not average at all when one axis grows (so does albumentations' `area_for_downscale`).

    Args:
        image: (H, W, 3) uint8.
        height: Rows wanted.
        width: Columns wanted.
        exact: Enlarge to Pillow's last bit too: published figures were measured so, and re-ranking moves by 0.05 % mAP.

    Returns:
        (height, width, 3) uint8; `image` itself if it has this size.
    """
    old_height, old_width = image.shape[:2]
    if (old_height, old_width) == (height, width):
        return image
    if old_height <= height and old_width <= width:
        if exact:
            return enlarge(image, height, width)
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


class ImageStep(albumentations.ImageOnlyTransform):  # type: ignore[misc]  # albumentations ships no types
    """An albumentations transform of images, with types for what its subclasses use and a short way in."""

    py_random: random.Random
    random_generator: np.random.Generator

    def augment(self, image: Array, donor: Donor | None) -> Array:
        """Does what a call does for a lone image, in a third of the time: no replay, no targets, no copy to contiguous.

        Args:
            image: (H, W, 3) uint8, contiguous or a view.
            donor: As for `Pipeline`.

        Returns:
            (H_out, W_out, 3) uint8, contiguous or a view.
        """
        self.params: dict[str, Any] = {}
        if not self.should_apply():
            return image
        params = {**self.get_params(), "shape": image.shape}
        params.update(self.get_params_dependent_on_data(params, {"image": image, "donor": donor}))
        self.params = params
        augmented: Array = self.apply(image, **params)
        return augmented


class Resize(ImageStep):
    """Resizes to a fixed size; see `resize`."""

    def __init__(self, height: int, width: int, exact: bool = False) -> None:
        """Takes the size of the result, in pixels, and whether to enlarge exactly as Pillow does."""
        super().__init__(p=1.0)
        self.exact = exact
        self.height = _at_least("height", height, 1)
        self.width = _at_least("width", width, 1)

    def apply(self, img: Array, **_: Any) -> Array:
        """Resizes `img`."""
        return resize(img, self.height, self.width, self.exact)


class Random2DTranslation(ImageStep):
    """Enlarges by an eighth and crops at a random place, or only resizes; Torchreid's `random_crop`.

    Zhou and Xiang, "Torchreid: A Library for Deep Learning Person Re-Identification in PyTorch", arXiv 2019. Torchreid
    rounds a continuous offset, which halves the chance of the outermost ones; here every offset is equally likely.
    """

    def __init__(self, height: int, width: int, p: float = 0.5) -> None:
        """Takes the size of the result.

        Args:
            height: Rows of the result.
            width: Columns of the result.
            p: Probability of the crop; otherwise the whole image is resized.

        Raises:
            ValueError: A number is out of range.
        """
        super().__init__(p=p)
        self.height = _at_least("height", height, 1)
        self.width = _at_least("width", width, 1)

    def should_apply(self, force_apply: bool = False) -> bool:
        """Always: without a crop there is still the resizing to do."""
        del force_apply
        return True

    def get_params(self) -> dict[str, Any]:
        """Draws the offset of the crop, or none."""
        if not super().should_apply():
            return {"offset": None}
        top = self.py_random.randint(0, round(self.height * 1.125) - self.height)
        left = self.py_random.randint(0, round(self.width * 1.125) - self.width)
        return {"offset": (top, left)}

    def apply(self, img: Array, offset: tuple[int, int] | None, **_: Any) -> Array:
        """Resizes and crops `img`."""
        if offset is None:
            return resize(img, self.height, self.width)
        top, left = offset
        large = resize(img, round(self.height * 1.125), round(self.width * 1.125))
        return large[top : top + self.height, left : left + self.width]


class PadCrop(ImageStep):
    """Pads every side and crops the old size back at a random place.

    Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPR Workshops 2019.
    """

    def __init__(self, pad: int = 10, fill: Sequence[int] = (0, 0, 0), p: float = 1.0) -> None:
        """Takes the width of the padding.

        Args:
            pad: Pixels added on every side; less than the image has.
            fill: Colour of the padding, RGB.
            p: Probability.

        Raises:
            ValueError: A value is out of range.
        """
        super().__init__(p=p)
        self.pad = _at_least("pad", pad, 0)
        self.fill = _colour(fill)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws how far the image moves."""
        del data
        _demand(
            self.pad < min(params["shape"][:2]),
            f"pad is {self.pad}, but the image has shape {params['shape']}; take a smaller pad, or resize before.",
        )
        return {
            "down": self.py_random.randint(-self.pad, self.pad),
            "right": self.py_random.randint(-self.pad, self.pad),
        }

    def apply(self, img: Array, down: int, right: int, **_: Any) -> Array:
        """Moves `img`, which is what padding and cropping come to, without the larger image in between."""
        height, width = img.shape[:2]
        seen = img[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
        top, left = max(down, 0), max(right, 0)
        bottom, end = height - seen.shape[0] - top, width - seen.shape[1] - left
        return cv2.copyMakeBorder(seen, top, bottom, left, end, cv2.BORDER_CONSTANT, value=self.fill)


class RandomErasing(ImageStep):
    """Covers a random rectangle.

    Zhong et al., "Random Erasing Data Augmentation", AAAI 2020: draw an area and an aspect ratio until the rectangle
    fits. `albumentations.Erasing` bounds the area so that every ratio fits, which on a 256 x 128 image stops at 15%
    where the paper goes to 40%; hence this class.
    """

    def __init__(
        self,
        scale: Sequence[float] = (0.02, 0.4),
        ratio: Sequence[float] = (0.3, 1 / 0.3),
        fill: Sequence[int] | Literal["random"] = (124, 116, 104),
        p: float = 0.5,
    ) -> None:
        """Takes the paper's parameters.

        Args:
            scale: Smallest and largest share of the image's area.
            ratio: Smallest and largest height / width.
            fill: RGB colour, by default ImageNet's mean, which normalisation makes zero; "random" is noise by pixel.
            p: Probability.

        Raises:
            ValueError: A value is out of range.
        """
        super().__init__(p=p)
        self.scale = _range("scale", scale, 1.0)
        self.ratio = _range("ratio", ratio, math.inf)
        self.fill = None if fill == "random" else _colour(fill)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the rectangle: top, left, rows, columns; None where a hundred did not fit."""
        del data
        height, width = params["shape"][:2]
        size = _rectangle(self.py_random, height, width, self.scale, self.ratio)
        return {"box": None if size is None else (*_place(self.py_random, height, width, size), *size)}

    def apply(self, img: Array, box: tuple[int, int, int, int] | None, **_: Any) -> Array:
        """Covers `box` on a copy of `img`."""
        if box is None:
            return img
        top, left, rows, columns = box
        erased = img.copy()
        if self.fill is None:
            noise = self.random_generator.integers(0, 256, (rows, columns, 3), np.uint8)
            erased[top : top + rows, left : left + columns] = noise
        else:  # ten times as fast as assigning a colour to a numpy slice
            cv2.rectangle(erased, (left, top, columns, rows), self.fill, cv2.FILLED)
        return erased


class RandomPatch(ImageStep):
    """Pastes a random crop of another image at a random place, to imitate occlusion.

    Zhou et al., "Learning Generalisable Omni-Scale Representations for Person Re-Identification", TPAMI 2021. The
    authors keep a pool of patches cut from the images that the process has seen before. Such a pool differs with the
    number of workers and dies with them at the end of every epoch. Here the patch is cut from an image that `donor`
    draws from the data set, so that an example depends on its seed alone and patches exist from the first batch on. It
    costs one more decoding in half of the examples.

    The call needs `donor`, a function from `random.Random` to an (H', W', 3) uint8 image, beside `image`; `Pipeline`
    passes it on. As in the original, a rotated patch keeps its size and has black corners.
    """

    def __init__(
        self,
        scale: Sequence[float] = (0.01, 0.5),
        ratio: Sequence[float] = (0.1, 10.0),
        p_rotate: float = 0.5,
        limit: int = 10,
        p_flip: float = 0.5,
        p: float = 0.5,
    ) -> None:
        """Takes the paper's parameters.

        Args:
            scale: Smallest and largest share of the image's area.
            ratio: Smallest and largest height / width of the patch.
            p_rotate: Probability that the patch is rotated.
            limit: Largest rotation either way, in whole degrees.
            p_flip: Probability that the patch is mirrored.
            p: Probability that there is a patch.

        Raises:
            ValueError: A value is out of range.
        """
        super().__init__(p=p)
        self.scale = _range("scale", scale, 1.0)
        self.ratio = _range("ratio", ratio, math.inf)
        self.p_rotate = _probability("p_rotate", p_rotate)
        self.limit = _at_least("limit", limit, 0)
        self.p_flip = _probability("p_flip", p_flip)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws, cuts and turns the patch; None where a hundred sizes did not fit."""
        donor = data.get("donor")
        if donor is None:
            raise ValueError("RandomPatch was called without donor; pass a function that gives another image.")
        height, width = params["shape"][:2]
        size = _rectangle(self.py_random, height, width, self.scale, self.ratio)
        if size is None:
            return {"patch": None, "corner": (0, 0)}
        other = donor(self.py_random)
        check_image(other, "the donor's image")
        top, left = _place(self.py_random, height, width, size)
        patch = resize(other, height, width)[top : top + size[0], left : left + size[1]]
        if self.py_random.random() < self.p_flip:
            patch = cv2.flip(patch, 1)
        if self.py_random.random() < self.p_rotate:
            centre = ((size[1] - 1) / 2, (size[0] - 1) / 2)
            turn = cv2.getRotationMatrix2D(centre, self.py_random.randint(-self.limit, self.limit), 1.0)
            patch = cv2.warpAffine(patch, turn, (size[1], size[0]))
        return {"patch": patch, "corner": _place(self.py_random, height, width, size)}

    def apply(self, img: Array, patch: Array | None, corner: tuple[int, int], **_: Any) -> Array:
        """Pastes `patch` on a copy of `img`."""
        if patch is None:
            return img
        top, left = corner
        pasted = img.copy()
        pasted[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
        return pasted


def _rectangle(
    rng: random.Random, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int] | None:
    """Draws rows and columns of a rectangle with an area and a height / width in the ranges, smaller than the image."""
    for _ in range(100):
        area = rng.uniform(*scale) * height * width
        aspect = rng.uniform(*ratio)
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < rows < height and 0 < columns < width:
            return rows, columns
    return None


def _place(rng: random.Random, height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """Draws the top left corner of a rectangle of `size` within the image."""
    return rng.randint(0, height - size[0]), rng.randint(0, width - size[1])


def check_image(image: Array, name: str) -> None:
    """Raises ValueError unless `image` is (H, W, 3) uint8 and not empty."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            f"{name} is {image.dtype} {image.shape}; it must be uint8 (H, W, 3). Leave scaling and normalisation to "
            "the model, which does them on the device."
        )


def _demand(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _at_least(name: str, value: int, least: int) -> int:
    _demand(value >= least and value == int(value), f"{name} is {value}; it must be a whole number from {least} up.")
    return int(value)


def _probability(name: str, value: float) -> float:
    _demand(0 <= value <= 1, f"{name} is {value}; it must lie between 0 and 1.")
    return float(value)


def _range(name: str, values: Sequence[float], most: float) -> tuple[float, float]:
    low, high = values if len(values) == 2 else (0.0, 0.0)
    _demand(0 < low <= high <= most, f"{name} is {values}; it must be [low, high] with 0 < low <= high <= {most}.")
    return float(low), float(high)


def _colour(fill: Sequence[int] | str) -> tuple[int, ...]:
    colour = tuple(value for value in fill if isinstance(value, int) and 0 <= value <= 255)
    _demand(
        len(colour) == len(fill) == 3,
        f"fill is {fill!r}; it must be three whole numbers from 0 to 255 (RandomErasing also takes 'random').",
    )
    return colour
