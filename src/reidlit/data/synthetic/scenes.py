"""Backgrounds of the synthetic cameras, of six types."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from reidlit.data.synthetic.drawing import Colour, Image, scaled


def texture(rng: np.random.Generator, height: int, width: int, cell: int, strength: float) -> NDArray[np.float32]:
    """Return smooth random brightness factors (height, width, 1) around 1 with spots of about `cell` pixels."""
    coarse = rng.normal(1.0, strength, (height // cell + 2, width // cell + 2)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)[..., None]


def draw_scene(camid: int, height: int, width: int, rng: np.random.Generator) -> Image:
    """Return the background (height, width, 3) of camera `camid`."""
    draw_position, wall, ground, third = PLACES[camid % len(PLACES)]
    tint = float(rng.uniform(0.85, 1.15))  # distinguishes cameras with the same background
    horizon = int(height * rng.uniform(0.55, 0.72))
    scene = np.empty((height, width, 3), dtype=np.uint8)
    scene[:horizon] = scaled(wall, tint)
    scene[horizon:] = scaled(ground, tint)
    draw_position(scene, horizon, third, rng)
    cell = max(4, height // 24)
    rough = texture(rng, height, width, cell, 0.05) * texture(rng, height, width, 6 * cell, 0.12)
    return np.clip(scene * rough, 0, 255).astype(np.uint8)


def brick_house(scene: Image, horizon: int, third: Colour, rng: np.random.Generator) -> None:
    """Draw rows of bricks and some windows above the horizon, and slabs below it."""
    height, width = scene.shape[:2]
    size = max(4, height // 26)
    for row, y in enumerate(range(0, horizon, size)):
        cv2.line(scene, (0, y), (width, y), (116, 76, 62), 1)
        for x in range((row % 2) * size, width, 2 * size):
            cv2.line(scene, (x, y), (x, min(y + size, horizon)), (116, 76, 62), 1)
    top, bottom = height // 10, height * 3 // 8
    for x in range(int(rng.integers(width // 6)), width, width // 4):
        cv2.rectangle(scene, (x, top), (x + width // 9, bottom), third, -1)
        cv2.rectangle(scene, (x + 4, top + 4), (x + width // 9 - 4, bottom - 4), (60, 70, 84), -1)
    for x in range(-width // 2, width * 3 // 2, width // 9):
        cv2.line(scene, (x, horizon), (2 * x - width // 2, height), (104, 100, 98), 2)


def corridor(scene: Image, horizon: int, third: Colour, rng: np.random.Generator) -> None:
    """Draw doors, a skirting board and a shining floor."""
    height, width = scene.shape[:2]
    for x in range(int(rng.integers(width // 6)), width, width // 3):
        cv2.rectangle(scene, (x, height // 6), (x + width // 8, horizon), third, -1)
        cv2.rectangle(scene, (x, height // 6), (x + width // 8, horizon), scaled(third, 0.6), 2)
    cv2.rectangle(scene, (0, horizon - height // 40), (width, horizon), (84, 76, 70), -1)
    for y in range(horizon + 6, height, max(4, height // 18)):
        cv2.line(scene, (0, y), (width, y), (176, 166, 150), 2)


def park(scene: Image, horizon: int, third: Colour, rng: np.random.Generator) -> None:
    """Draw leaves, trunks and a path."""
    height, width = scene.shape[:2]
    for x, y, shade in rng.random((90, 3)).tolist():
        cv2.circle(scene, (int(x * width), int(y * horizon)), height // 24, scaled(third, 0.7 + 0.9 * shade), -1)
    for x in rng.integers(width, size=7).tolist():
        cv2.rectangle(scene, (x, height // 8), (x + height // 26, horizon + height // 20), (86, 66, 50), -1)
    cv2.rectangle(scene, (0, horizon + height // 9), (width, height), (176, 158, 128), -1)


def platform(scene: Image, horizon: int, third: Colour, rng: np.random.Generator) -> None:
    """Draw a train with windows behind a yellow line."""
    height, width = scene.shape[:2]
    cv2.rectangle(scene, (0, height // 12), (width, horizon - height // 16), (168, 174, 180), -1)
    cv2.rectangle(scene, (0, horizon - height // 7), (width, horizon - height // 16), (44, 84, 140), -1)
    for x in range(int(rng.integers(width // 8)), width, width // 5):
        cv2.rectangle(scene, (x, height // 6), (x + width // 8, height * 5 // 12), (40, 46, 54), -1)
    cv2.rectangle(scene, (0, horizon + height // 16), (width, horizon + height // 10), third, -1)
    for x in range(0, width, max(4, height // 16)):
        cv2.line(scene, (x, horizon + height // 10), (x, height), (62, 64, 70), 1)


def car_park(scene: Image, horizon: int, third: Colour, rng: np.random.Generator) -> None:
    """Draw parked cars, pillars and painted bays."""
    height, width = scene.shape[:2]
    paints: tuple[Colour, ...] = ((130, 34, 34), (150, 152, 156), (34, 52, 92), (24, 24, 26))
    top, long = horizon - height // 9, width // 5
    for number, x in enumerate(range(int(rng.integers(width // 8)), width, width // 4)):
        paint, roof = paints[number % 4], (long // 3, height // 11)
        cv2.ellipse(scene, (x + long // 2, top), roof, 0, 180, 360, scaled(paint, 0.7), -1)
        cv2.rectangle(scene, (x, top), (x + long, horizon), paint, -1)
        for wheel in (x + long // 5, x + long * 4 // 5):
            cv2.circle(scene, (wheel, horizon), height // 34, (16, 16, 18), -1)
    for x in range(0, width, width // 5):
        cv2.line(scene, (x, horizon + 4), (x - width // 12, height), third, max(2, height // 70))
        cv2.rectangle(scene, (x, 0), (x + width // 30, horizon), (110, 108, 100), -1)


def shop_front(scene: Image, horizon: int, third: Colour, rng: np.random.Generator) -> None:
    """Draw bright windows with goods, a sign and a chequered floor."""
    height, width = scene.shape[:2]
    cv2.rectangle(scene, (0, 0), (width, height // 9), (164, 44, 60), -1)
    for left in range(int(rng.integers(width // 8)), width, width // 4):
        cv2.rectangle(scene, (left, height // 7), (left + width // 5, horizon - height // 14), third, -1)
        for across, down, shade in rng.random((7, 3)).tolist():
            x, y = left + int(across * width / 6), height // 5 + int(down * (horizon - height // 5) * 0.7)
            cv2.rectangle(
                scene, (x, y), (x + width // 30, y + height // 14), scaled((190, 150, 130), 0.5 + 0.7 * shade), -1
            )
    size = max(6, height // 14)
    for row, y in enumerate(range(horizon, height, size)):
        for x in range((row % 2) * size, width, 2 * size):
            cv2.rectangle(scene, (x, y), (x + size, y + size), (146, 136, 124), -1)


# Drawing function and colors of the wall, ground and details of each background.
PLACES: tuple[tuple[Callable[[Image, int, Colour, np.random.Generator], None], Colour, Colour, Colour], ...] = (
    (brick_house, (150, 92, 72), (128, 124, 120), (212, 208, 196)),
    (corridor, (196, 192, 180), (150, 140, 126), (96, 120, 140)),
    (park, (96, 128, 78), (126, 142, 88), (70, 92, 52)),
    (platform, (92, 100, 112), (72, 74, 80), (226, 196, 70)),
    (car_park, (62, 62, 74), (56, 54, 56), (220, 214, 200)),
    (shop_front, (120, 140, 160), (176, 166, 152), (226, 232, 236)),
)
