"""Primitives of synthetic images: seeded random numbers, colors and shapes.

Shapes are drawn with OpenCV on a canvas larger than the image, without antialiasing: shrinking the canvas afterwards
smooths the edges and is faster than antialiased polygons.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Colour = tuple[int, int, int]
Point = tuple[float, float]
T = TypeVar("T")

SHIFT = 3  # fractional bits of OpenCV's fixed-point coordinates: positions must not snap to whole pixels


def generator(*key: int) -> np.random.Generator:
    """Return the random number generator of a key, which is the same on every platform."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def pick(rng: np.random.Generator, options: tuple[T, ...]) -> T:
    """Return a random option; an option that is listed twice is twice as likely."""
    return options[int(rng.integers(len(options)))]


def scaled(colour: Colour, factor: float) -> Colour:
    """Return a darker (`factor` < 1) or brighter color, clipped to 0 to 255."""
    red, green, blue = (min(255, max(0, round(value * factor))) for value in colour)
    return red, green, blue


class Pen:
    """Pen that fills shapes in body coordinates: x to the right, y up from the feet, in units of the body height.

    Args:
        image: (H, W, 3) image to draw on, in place.
        x: Pixels from the left to the point between the feet.
        y: Pixels from the top to the point between the feet.
        unit: Body height in pixels.
    """

    def __init__(self, image: Image, x: float, y: float, unit: float) -> None:
        self.image = image
        self.x, self.y, self.scale = x * (1 << SHIFT), y * (1 << SHIFT), unit * (1 << SHIFT)

    def _fixed(self, point: Point) -> tuple[int, int]:
        return int(self.x + point[0] * self.scale), int(self.y - point[1] * self.scale)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon whose outline crosses every horizontal line at most twice."""
        fixed = np.array([self._fixed(point) for point in points], dtype=np.int32)
        cv2.fillConvexPoly(self.image, fixed, colour, cv2.LINE_8, SHIFT)

    def rows(self, rows: Sequence[Point], colour: Colour, x: float = 0, left: float = -1, right: float = 1) -> None:
        """Fill an upright shape around `x`, straight between rows.

        Args:
            rows: (height, half width) pairs from the top down.
            colour: Color of the shape.
            x: Position of the axis.
            left: Left edge as a fraction of the half widths.
            right: Right edge as a fraction of the half widths.
        """
        edge = [(x + left * half, y) for y, half in rows]
        self.polygon(edge + [(x + right * half, y) for y, half in reversed(rows)], colour)

    def ellipse(self, centre: Point, half: Point, colour: Colour) -> None:
        """Fill an ellipse with the half axes (horizontal, vertical)."""
        axes = (max(1, int(half[0] * self.scale)), max(1, int(half[1] * self.scale)))
        cv2.ellipse(self.image, self._fixed(centre), axes, 0, 0, 360, colour, -1, cv2.LINE_8, SHIFT)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Fill a circle."""
        cv2.circle(self.image, self._fixed(centre), max(1, int(radius * self.scale)), colour, -1, cv2.LINE_8, SHIFT)

    def limb(self, start: Point, end: Point, radii: Point, colour: Colour) -> None:
        """Fill a rounded bone from `start` to `end` with the radii at its two ends."""
        length = math.hypot(end[0] - start[0], end[1] - start[1]) or 1.0
        nx, ny = -(end[1] - start[1]) / length, (end[0] - start[0]) / length
        ends = ((start, radii[0]), (end, radii[1]))
        edge = [(x + nx * radius, y + ny * radius) for (x, y), radius in ends]
        self.polygon(edge + [(x - nx * radius, y - ny * radius) for (x, y), radius in reversed(ends)], colour)
        for point, radius in ends:
            self.disc(point, radius, colour)
