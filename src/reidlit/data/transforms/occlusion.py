"""Steps that cover a random rectangle."""

import math
import random
from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np

from reidlit.data.transforms.arguments import at_least, colour, interval, probability
from reidlit.data.transforms.geometry import resize
from reidlit.data.transforms.step import Array, ImageStep, check_image


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
        self.scale = interval("scale", scale, 1.0)
        self.ratio = interval("ratio", ratio, math.inf)
        self.fill = None if fill == "random" else colour(fill)

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
        self.scale = interval("scale", scale, 1.0)
        self.ratio = interval("ratio", ratio, math.inf)
        self.p_rotate = probability("p_rotate", p_rotate)
        self.limit = at_least("limit", limit, 0)
        self.p_flip = probability("p_flip", p_flip)

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
