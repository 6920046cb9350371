"""Steps that occlude a random rectangle."""

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
    """Erasing of a random rectangle.

    Zhong et al., "Random Erasing Data Augmentation", AAAI 2020: draw an area and an aspect ratio until the rectangle fits.
    `albumentations.Erasing` instead limits the area so that every ratio fits. For a 256 x 128 image that is 15% of the area,
    while the paper erases up to 40%.

    Args:
        scale: Minimum and maximum fraction of the image area.
        ratio: Minimum and maximum ratio of height to width.
        fill: RGB color, by default the mean of ImageNet, which normalization maps to zero. "random" fills with uniform noise.
        p: Probability of applying the step.

    Raises:
        ValueError: If a value is out of range.
    """

    def __init__(
        self,
        scale: Sequence[float] = (0.02, 0.4),
        ratio: Sequence[float] = (0.3, 1 / 0.3),
        fill: Sequence[int] | Literal["random"] = (124, 116, 104),
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.scale = interval("scale", scale, 1.0)
        self.ratio = interval("ratio", ratio, math.inf)
        self.fill = None if fill == "random" else colour(fill)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Choose the rectangle (top, left, height, width), None if 100 attempts do not fit."""
        del data
        height, width = params["shape"][:2]
        size = _random_size(self.py_random, height, width, self.scale, self.ratio)
        return {"box": None if size is None else (*_random_corner(self.py_random, height, width, size), *size)}

    def apply(self, img: Array, box: tuple[int, int, int, int] | None, **_: Any) -> Array:
        """Fill `box` in a copy of `img`."""
        if box is None:
            return img
        top, left, rows, columns = box
        erased = img.copy()
        if self.fill is None:
            noise = self.random_generator.integers(0, 256, (rows, columns, 3), np.uint8)
            erased[top : top + rows, left : left + columns] = noise
        else:  # ten times as fast as assigning a color to a NumPy slice
            cv2.rectangle(erased, (left, top, columns, rows), self.fill, cv2.FILLED)
        return erased


class RandomPatch(ImageStep):
    """Pasting of a random crop of another image at a random position, to imitate occlusion.

    Zhou et al., "Learning Generalisable Omni-Scale Representations for Person Re-Identification", TPAMI 2021. The authors keep
    a pool of patches from the images that the process has decoded so far. Its content depends on the number of workers and is
    lost with them at the end of every epoch. Here the patch comes from a random image of the dataset, which `donor` returns, so
    an example depends only on its seed, and patches are available from the first batch. Half of the examples need one more
    image to be decoded.

    A call needs `donor`, a function from `random.Random` to an (H', W', 3) uint8 image, in addition to `image`; `Pipeline`
    passes it on. As in the original, a rotated patch keeps its size and has black corners.

    Args:
        scale: Minimum and maximum fraction of the image area.
        ratio: Minimum and maximum ratio of the patch's height to its width.
        p_rotate: Probability of rotating the patch.
        limit: Maximum rotation in either direction, in whole degrees.
        p_flip: Probability of mirroring the patch.
        p: Probability of applying the step.

    Raises:
        ValueError: If a value is out of range.
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
        super().__init__(p=p)
        self.scale = interval("scale", scale, 1.0)
        self.ratio = interval("ratio", ratio, math.inf)
        self.p_rotate = probability("p_rotate", p_rotate)
        self.limit = at_least("limit", limit, 0)
        self.p_flip = probability("p_flip", p_flip)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Choose, crop and rotate the patch; None if 100 attempts do not fit."""
        donor = data.get("donor")
        if donor is None:
            raise ValueError("RandomPatch needs the argument donor: pass a function that returns another image.")
        height, width = params["shape"][:2]
        size = _random_size(self.py_random, height, width, self.scale, self.ratio)
        if size is None:
            return {"patch": None, "corner": (0, 0)}
        other = donor(self.py_random)
        check_image(other, "the image of donor")
        top, left = _random_corner(self.py_random, height, width, size)
        patch = resize(other, height, width)[top : top + size[0], left : left + size[1]]
        if self.py_random.random() < self.p_flip:
            patch = cv2.flip(patch, 1)
        if self.py_random.random() < self.p_rotate:
            center = ((size[1] - 1) / 2, (size[0] - 1) / 2)
            rotation = cv2.getRotationMatrix2D(center, self.py_random.randint(-self.limit, self.limit), 1.0)
            patch = cv2.warpAffine(patch, rotation, (size[1], size[0]))
        return {"patch": patch, "corner": _random_corner(self.py_random, height, width, size)}

    def apply(self, img: Array, patch: Array | None, corner: tuple[int, int], **_: Any) -> Array:
        """Paste `patch` into a copy of `img`."""
        if patch is None:
            return img
        top, left = corner
        pasted = img.copy()
        pasted[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
        return pasted


def _random_size(
    rng: random.Random, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int] | None:
    """Draw the height and width of a rectangle within the given ranges and smaller than the image, None if none fits."""
    for _ in range(100):
        area = rng.uniform(*scale) * height * width
        aspect = rng.uniform(*ratio)
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < rows < height and 0 < columns < width:
            return rows, columns
    return None


def _random_corner(rng: random.Random, height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """Draw the top left corner of a rectangle of `size` inside the image."""
    return rng.randint(0, height - size[0]), rng.randint(0, width - size[1])
