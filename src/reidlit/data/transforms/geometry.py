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
    """Resize an image bilinearly and without aliasing, as Pillow does.

    OpenCV enlarges images, because it is much faster than Pillow and differs by at most one gray level. Pillow shrinks images,
    on either axis: OpenCV's bilinear filter skips pixels, and its area filter is a different filter that does not average if
    one axis grows. The same holds for albumentations' `area_for_downscale`.

    Args:
        image: (H, W, 3) uint8 image.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        exact: Whether to reproduce Pillow bit for bit when enlarging. Published results were measured that way; the difference
            is up to 0.05 % mAP with re-ranking.

    Returns:
        (height, width, 3) uint8 image; `image` itself if it has this size.
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
    """Resizing to a fixed size.

    Args:
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        exact: Whether to enlarge exactly as Pillow does; see `resize`.

    Raises:
        ValueError: If a size is not a positive integer.
    """

    def __init__(self, height: int, width: int, exact: bool = False) -> None:
        super().__init__(p=1.0)
        self.exact = exact
        self.height = at_least("height", height, 1)
        self.width = at_least("width", width, 1)

    def apply(self, img: Array, **_: Any) -> Array:
        """Resize `img`."""
        return resize(img, self.height, self.width, self.exact)


class Random2DTranslation(ImageStep):
    """Enlarging by an eighth and cropping at a random position, or only resizing; Torchreid's `random_crop`.

    Zhou and Xiang, "Torchreid: A Library for Deep Learning Person Re-Identification in PyTorch", arXiv 2019. Torchreid rounds a
    continuous offset, which halves the probability of the outermost ones. Here every offset is equally likely.

    Args:
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        p: Probability of the crop. Otherwise the image is only resized.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, height: int, width: int, p: float = 0.5) -> None:
        super().__init__(p=p)
        self.height = at_least("height", height, 1)
        self.width = at_least("width", width, 1)

    def should_apply(self, force_apply: bool = False) -> bool:
        """Return True, because an image that is not cropped must still be resized."""
        del force_apply
        return True

    def get_params(self) -> dict[str, Any]:
        """Choose the offset of the crop, None for no crop."""
        if not super().should_apply():
            return {"offset": None}
        top = self.py_random.randint(0, round(self.height * 1.125) - self.height)
        left = self.py_random.randint(0, round(self.width * 1.125) - self.width)
        return {"offset": (top, left)}

    def apply(self, img: Array, offset: tuple[int, int] | None, **_: Any) -> Array:
        """Resize and crop `img`."""
        if offset is None:
            return resize(img, self.height, self.width)
        top, left = offset
        large = resize(img, round(self.height * 1.125), round(self.width * 1.125))
        return large[top : top + self.height, left : left + self.width]


class PadCrop(ImageStep):
    """Padding on every side and cropping to the original size at a random position.

    Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPR Workshops 2019.

    Args:
        pad: Number of pixels added on every side, less than the height and width of the image.
        fill: RGB color of the padding.
        p: Probability of applying the step.

    Raises:
        ValueError: If a value is out of range.
    """

    def __init__(self, pad: int = 10, fill: Sequence[int] = (0, 0, 0), p: float = 1.0) -> None:
        super().__init__(p=p)
        self.pad = at_least("pad", pad, 0)
        self.fill = colour(fill)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Choose by how many pixels the image moves."""
        del data
        demand(
            self.pad < min(params["shape"][:2]),
            f"pad={self.pad} is too large for an image of shape {params['shape']}: must be less than its height and width. Lower "
            "pad, or resize before padding.",
        )
        return {
            "down": self.py_random.randint(-self.pad, self.pad),
            "right": self.py_random.randint(-self.pad, self.pad),
        }

    def apply(self, img: Array, down: int, right: int, **_: Any) -> Array:
        """Shift `img`, which equals padding and cropping but needs no padded copy."""
        height, width = img.shape[:2]
        visible = img[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
        top, left = max(down, 0), max(right, 0)
        bottom, right_border = height - visible.shape[0] - top, width - visible.shape[1] - left
        return cv2.copyMakeBorder(visible, top, bottom, left, right_border, cv2.BORDER_CONSTANT, value=self.fill)
