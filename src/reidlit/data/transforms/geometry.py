"""Steps that resize, shift and crop."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from reidlit.data.pillow_resize import enlarge
from reidlit.data.transforms.arguments import at_least, colour, demand
from reidlit.data.transforms.step import Array, ImageStep


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


class Resize(ImageStep):
    """Resizes to a fixed size; see `resize`."""

    def __init__(self, height: int, width: int, exact: bool = False) -> None:
        """Takes the size of the result, in pixels, and whether to enlarge exactly as Pillow does."""
        super().__init__(p=1.0)
        self.exact = exact
        self.height = at_least("height", height, 1)
        self.width = at_least("width", width, 1)

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
        self.height = at_least("height", height, 1)
        self.width = at_least("width", width, 1)

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
        self.pad = at_least("pad", pad, 0)
        self.fill = colour(fill)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws how far the image moves."""
        del data
        demand(
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
