"""Cameras of synthetic pedestrians, which differ in scene, lighting, colors and image quality."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from reidlit.data.synthetic.drawing import Image, generator
from reidlit.data.synthetic.scenes import draw_scene

OVERSIZE = 2  # scale of canvases relative to images, which are shrunk afterwards
SPACE = 48  # margin of the noise field in pixels, so that it can be shifted from shot to shot
GRAY = np.array([[0.3, 0.59, 0.11]], dtype=np.float32)


def mirrored(start: int, count: int, size: int) -> NDArray[np.int64]:
    """Return `count` consecutive positions from `start` on, reflected at 0 and `size` - 1."""
    return np.abs((np.arange(start, start + count) + size - 1) % (2 * size - 2) - size + 1)


class Look(NamedTuple):
    """Factors by which a single image differs from the average image of its camera."""

    detail: float  # distant people have fewer pixels
    brightness: float
    blur: float


class Camera:
    """Camera with a scene and imaging properties.

    Args:
        seed: Random seed of the dataset.
        camid: Number of the camera.
        height: Height of its images in pixels.
        width: Width of its images in pixels.

    Attributes:
        heading: Typical yaw of people in radians; half of them walk in the opposite direction.
        scene: (h, w, 3) background, larger than a canvas, so that each shot shows a different part of it.
    """

    def __init__(self, seed: int, camid: int, height: int, width: int) -> None:
        rng = generator(seed, 1, camid)
        self.height, self.width = height, width
        # Even steps with a little noise ensure that any two cameras differ, which independent draws would not.
        turn = (camid * 0.618034 + float(rng.uniform(-0.05, 0.05))) % 1.0
        self.heading = np.pi * (0.5 * (camid % 3) / 2 + float(rng.uniform(-0.08, 0.08)))
        self.scene = draw_scene(camid, int(1.2 * OVERSIZE * height), 4 * OVERSIZE * width, rng)
        self.gains = np.exp(0.1 * np.cos(2 * np.pi * (turn + np.arange(3) / 3)))  # (3,) white balance
        self.gamma = float(np.exp(0.2 * np.sin(2 * np.pi * (turn * 2 + 0.1))))
        self.exposure = float(rng.uniform(0.9, 1.12))
        self.contrast = float(rng.uniform(0.75, 1.1))
        saturation = float(rng.uniform(0.6, 1.1))
        self.mix = saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * np.repeat(GRAY, 3, axis=0)
        self.detail = float((1.0, 0.7, 0.5)[(camid * 2 + 1) % 3] * rng.uniform(0.85, 1.0))
        self.blur = float(rng.uniform(0.3, 0.9))
        down, across = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
        slope = 1.0 + float(rng.uniform(-0.2, 0.2)) * down + float(rng.uniform(-0.2, 0.2)) * across
        self.light = np.repeat(slope[..., None], 3, axis=2).astype(np.float32)  # (H, W, 3) illumination
        strength = float(rng.uniform(3.0, 9.0))
        field = rng.normal(0.0, strength, (height + SPACE, width + SPACE, 3)) * (0.6, 0.5, 0.8)
        self.noise = (field + rng.normal(0.0, strength * 0.7, (height + SPACE, width + SPACE, 1))).astype(np.int16)

    def background(self, rng: np.random.Generator) -> Image:
        """Return a canvas (2 H, 2 W, 3) with a random part of the scene."""
        high, wide = OVERSIZE * self.height, OVERSIZE * self.width
        top = int(rng.integers(self.scene.shape[0] - high + 1))
        return self.view(int(rng.integers(self.scene.shape[1] - wide + 1)), top, wide, high)

    def view(self, left: int, top: int, wide: int, high: int) -> Image:
        """Return a copy (high, wide, 3) of any part of the scene, with reflection at its edges."""
        rows = mirrored(top, high, self.scene.shape[0])
        return self.scene[rows[:, None], mirrored(left, wide, self.scene.shape[1])]

    def expose(self, canvas: Image, look: Look, rng: np.random.Generator) -> Image:
        """Return the image (H, W, 3) that this camera records of a canvas of any size, with random noise."""
        size = (self.width, self.height)
        detail = self.detail * look.detail
        small = (max(8, round(self.width * detail)), max(8, round(self.height * detail)))
        image = cv2.resize(canvas, small, interpolation=cv2.INTER_AREA)
        image = cv2.transform(image, self.mix)
        image = cv2.LUT(image, self._curves(look.brightness))
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        image = cv2.GaussianBlur(image, (0, 0), self.blur * look.blur)
        image = cv2.multiply(image, self.light, dtype=cv2.CV_16S)
        y, x = rng.integers(SPACE, size=2).tolist()
        noise = self.noise[y : y + self.height, x : x + self.width]
        return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), dtype=np.uint8)

    def _curves(self, brightness: float) -> Image:
        """Return the lookup table (256, 1, 3) from scene to recorded values of each channel."""
        value = np.linspace(0, 1, 256)[:, None] ** self.gamma
        value = 0.5 + self.contrast * (value * self.gains * self.exposure * brightness - 0.5)
        return np.clip(255 * value, 0, 255).astype(np.uint8)[:, None]
