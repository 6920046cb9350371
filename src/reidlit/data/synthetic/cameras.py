"""The cameras of the synthetic pedestrians: each has its own place, light, colours and faults; and what hides people."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from reidlit.data.synthetic.drawing import Colour, Image, scaled

OVERSIZE = 2  # canvases are drawn this much larger than the pictures, then shrunk
SPACE = 48  # pixels by which the noise field exceeds the picture, so that it can be shifted from shot to shot

# Wall, ground and third colour of the six kinds of places, which `SCENES` draws in the same order.
PLACES: tuple[tuple[Colour, Colour, Colour], ...] = (
    ((150, 92, 72), (128, 124, 120), (212, 208, 196)),  # brick house, pavement
    ((196, 192, 180), (150, 140, 126), (96, 120, 140)),  # corridor with doors
    ((96, 128, 78), (126, 142, 88), (70, 92, 52)),  # park
    ((92, 100, 112), (72, 74, 80), (226, 196, 70)),  # station platform
    ((62, 62, 74), (56, 54, 56), (220, 214, 200)),  # car park
    ((120, 140, 160), (176, 166, 152), (226, 232, 236)),  # shop front
)


def generator(*key: int) -> np.random.Generator:
    """Returns the random numbers that belong to a key, the same on every platform."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def texture(rng: np.random.Generator, height: int, width: int, cell: int, strength: float) -> NDArray[np.float32]:
    """Returns smooth random brightness changes (height, width, 1) around 1, whose spots are about `cell` pixels large."""
    coarse = rng.normal(1.0, strength, (height // cell + 2, width // cell + 2)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)[..., None]


def bricks(scene: Image, horizon: int, third: Colour, rng: np.random.Generator) -> None:
    """Draws rows of bricks and some windows above the horizon, and slabs below it."""
    height, width = scene.shape[:2]
    size = max(4, height // 26)
    for row, y in enumerate(range(0, horizon, size)):
        cv2.line(scene, (0, y), (width, y), (116, 76, 62), 1)
        for x in range((row % 2) * size, width, 2 * size):
            cv2.line(scene, (x, y), (x, min(y + size, horizon)), (116, 76, 62), 1)
    for x in range(int(rng.integers(width // 6)), width, width // 4):
        cv2.rectangle(scene, (x, height // 10), (x + width // 9, height * 3 // 8), third, -1)
        cv2.rectangle(scene, (x + 4, height // 10 + 4), (x + width // 9 - 4, height * 3 // 8 - 4), (60, 70, 84), -1)
    for x in range(-width // 2, width * 3 // 2, width // 9):
        cv2.line(scene, (x, horizon), (2 * x - width // 2, height), (104, 100, 98), 2)


def corridor(scene: Image, horizon: int, third: Colour, rng: np.random.Generator) -> None:
    """Draws doors, a skirting board and a shining floor."""
    height, width = scene.shape[:2]
    for x in range(int(rng.integers(width // 6)), width, width // 3):
        cv2.rectangle(scene, (x, height // 6), (x + width // 8, horizon), third, -1)
        cv2.rectangle(scene, (x, height // 6), (x + width // 8, horizon), scaled(third, 0.6), 2)
    cv2.rectangle(scene, (0, horizon - height // 40), (width, horizon), (84, 76, 70), -1)
    for y in range(horizon + 6, height, max(4, height // 18)):
        cv2.line(scene, (0, y), (width, y), (176, 166, 150), 2)


def park(scene: Image, horizon: int, third: Colour, rng: np.random.Generator) -> None:
    """Draws leaves, trunks and a path."""
    height, width = scene.shape[:2]
    for x, y, shade in rng.random((90, 3)).tolist():
        cv2.circle(scene, (int(x * width), int(y * horizon)), height // 24, scaled(third, 0.7 + 0.9 * shade), -1)
    for x in rng.integers(width, size=7).tolist():
        cv2.rectangle(scene, (x, height // 8), (x + height // 26, horizon + height // 20), (86, 66, 50), -1)
    cv2.rectangle(scene, (0, horizon + height // 9), (width, height), (176, 158, 128), -1)


def platform(scene: Image, horizon: int, third: Colour, rng: np.random.Generator) -> None:
    """Draws a train with windows behind a yellow line."""
    height, width = scene.shape[:2]
    cv2.rectangle(scene, (0, height // 12), (width, horizon - height // 16), (168, 174, 180), -1)
    cv2.rectangle(scene, (0, horizon - height // 7), (width, horizon - height // 16), (44, 84, 140), -1)
    for x in range(int(rng.integers(width // 8)), width, width // 5):
        cv2.rectangle(scene, (x, height // 6), (x + width // 8, height * 5 // 12), (40, 46, 54), -1)
    cv2.rectangle(scene, (0, horizon + height // 16), (width, horizon + height // 10), third, -1)
    for x in range(0, width, max(4, height // 16)):
        cv2.line(scene, (x, horizon + height // 10), (x, height), (62, 64, 70), 1)


def car_park(scene: Image, horizon: int, third: Colour, rng: np.random.Generator) -> None:
    """Draws parked cars, pillars and painted bays."""
    height, width = scene.shape[:2]
    colours: tuple[Colour, ...] = ((130, 34, 34), (150, 152, 156), (34, 52, 92), (24, 24, 26))
    for number, x in enumerate(range(int(rng.integers(width // 8)), width, width // 4)):
        paint, long = colours[number % 4], width // 5
        cv2.ellipse(
            scene,
            (x + long // 2, horizon - height // 9),
            (long // 3, height // 11),
            0,
            180,
            360,
            scaled(paint, 0.7),
            -1,
        )
        cv2.rectangle(scene, (x, horizon - height // 9), (x + long, horizon), paint, -1)
        cv2.circle(scene, (x + long // 5, horizon), height // 34, (16, 16, 18), -1)
        cv2.circle(scene, (x + long * 4 // 5, horizon), height // 34, (16, 16, 18), -1)
    for x in range(0, width, width // 5):
        cv2.line(scene, (x, horizon + 4), (x - width // 12, height), third, max(2, height // 70))
        cv2.rectangle(scene, (x, 0), (x + width // 30, horizon), (110, 108, 100), -1)


def shop(scene: Image, horizon: int, third: Colour, rng: np.random.Generator) -> None:
    """Draws bright windows with goods, a sign and a chequered floor."""
    height, width = scene.shape[:2]
    cv2.rectangle(scene, (0, 0), (width, height // 9), (164, 44, 60), -1)
    for x in range(int(rng.integers(width // 8)), width, width // 4):
        cv2.rectangle(scene, (x, height // 7), (x + width // 5, horizon - height // 14), third, -1)
        for across, down, shade in rng.random((7, 3)).tolist():
            at = (x + int(across * width / 6), height // 5 + int(down * (horizon - height // 5) * 0.7))
            goods = scaled((190, 150, 130), 0.5 + 0.7 * shade)
            cv2.rectangle(scene, at, (at[0] + width // 30, at[1] + height // 14), goods, -1)
    size = max(6, height // 14)
    for row, y in enumerate(range(horizon, height, size)):
        for x in range((row % 2) * size, width, 2 * size):
            cv2.rectangle(scene, (x, y), (x + size, y + size), (146, 136, 124), -1)


SCENES = (bricks, corridor, park, platform, car_park, shop)


def mirrored(start: int, count: int, size: int) -> NDArray[np.int64]:
    """Returns `count` places from `start` on, 0 to `size` - 1: beyond either end they run back."""
    return np.abs((np.arange(start, start + count) + size - 1) % (2 * size - 2) - size + 1)


class Look(NamedTuple):
    """How a single picture differs from what its camera shows otherwise. All are factors."""

    detail: float  # people farther off have fewer pixels
    brightness: float
    blur: float


class Camera:
    """One camera: what it looks at and how it shows it.

    Attributes:
        heading: the yaw in radians at which people mostly walk past; half of them come from the other side.
    """

    def __init__(self, seed: int, camid: int, height: int, width: int) -> None:
        """Builds the scene and the look of camera `camid` for pictures of `height` x `width` pixels."""
        rng = generator(seed, 1, camid)
        self.height, self.width = height, width
        # Even steps with a little noise, instead of free draws, keep any two cameras apart.
        turn = (camid * 0.618034 + float(rng.uniform(-0.05, 0.05))) % 1.0
        self.heading = np.pi * (0.5 * (camid % 3) / 2 + float(rng.uniform(-0.08, 0.08)))
        self.scene = self._scene(camid, rng)
        hues = 2 * np.pi * (turn + np.arange(3) / 3)
        self.gains = np.exp(0.1 * np.cos(hues))  # (3,) white balance
        self.gamma = float(np.exp(0.2 * np.sin(2 * np.pi * (turn * 2 + 0.1))))
        self.exposure = float(rng.uniform(0.9, 1.12))
        self.contrast = float(rng.uniform(0.75, 1.1))
        self.saturation = float(rng.uniform(0.6, 1.1))
        self.detail = float((1.0, 0.7, 0.5)[(camid * 2 + 1) % 3] * rng.uniform(0.85, 1.0))
        self.blur = float(rng.uniform(0.3, 0.9))
        self.light = self._light(rng)
        strength = float(rng.uniform(3.0, 9.0))
        field = rng.normal(0.0, strength, (height + SPACE, width + SPACE, 3)) * (0.6, 0.5, 0.8)
        self.noise = (field + rng.normal(0.0, strength * 0.7, (height + SPACE, width + SPACE, 1))).astype(np.int16)

    def _scene(self, camid: int, rng: np.random.Generator) -> Image:
        """Returns the place (h, w, 3), larger than a canvas, so that every shot sees another part of it."""
        high, wide = int(1.2 * OVERSIZE * self.height), 4 * OVERSIZE * self.width
        wall, ground, third = PLACES[camid % len(PLACES)]
        tint = float(rng.uniform(0.85, 1.15))  # the seventh camera has the first one's place in another shade
        horizon = int(high * rng.uniform(0.55, 0.72))
        scene = np.empty((high, wide, 3), dtype=np.uint8)
        scene[:horizon] = scaled(wall, tint)
        scene[horizon:] = scaled(ground, tint)
        SCENES[camid % len(SCENES)](scene, horizon, third, rng)
        cell = max(4, high // 24)
        rough = texture(rng, high, wide, cell, 0.05) * texture(rng, high, wide, 6 * cell, 0.12)
        return np.clip(scene * rough, 0, 255).astype(np.uint8)

    def _light(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Returns how bright each pixel is lit (H, W, 3): a slope over the picture, different from camera to camera."""
        down, across = np.linspace(-1, 1, self.height)[:, None], np.linspace(-1, 1, self.width)[None]
        slope = 1.0 + float(rng.uniform(-0.2, 0.2)) * down + float(rng.uniform(-0.2, 0.2)) * across
        return np.repeat(slope[..., None], 3, axis=2).astype(np.float32)

    def background(self, rng: np.random.Generator) -> Image:
        """Returns a canvas (2 H, 2 W, 3) with a random part of the scene."""
        high, wide = OVERSIZE * self.height, OVERSIZE * self.width
        y = int(rng.integers(self.scene.shape[0] - high + 1))
        x = int(rng.integers(self.scene.shape[1] - wide + 1))
        return self.scene[y : y + high, x : x + wide].copy()

    def view(self, left: int, top: int, wide: int, high: int) -> Image:
        """Returns a copy (high, wide, 3) of any part of the scene, which is mirrored at its edges."""
        rows = mirrored(top, high, self.scene.shape[0])
        return self.scene[rows[:, None], mirrored(left, wide, self.scene.shape[1])]

    def develop(self, canvas: Image, rng: np.random.Generator) -> Image:
        """Returns the picture (H, W, 3) that this camera makes of a canvas (2 H, 2 W, 3) in a look drawn by chance."""
        look = Look(float(rng.uniform(0.75, 1.0)), float(rng.uniform(0.85, 1.15)), float(rng.uniform(0.7, 1.3)))
        return self.expose(canvas, look, rng)

    def expose(self, canvas: Image, look: Look, rng: np.random.Generator) -> Image:
        """Returns the picture (H, W, 3) that this camera makes of a canvas (any size, 3), with noise by chance."""
        size = (self.width, self.height)
        detail = self.detail * look.detail
        small = (max(8, round(self.width * detail)), max(8, round(self.height * detail)))
        image = cv2.resize(canvas, small, interpolation=cv2.INTER_AREA)
        image = cv2.transform(image, self._mix())
        image = cv2.LUT(image, self._curves(look.brightness))
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        image = cv2.GaussianBlur(image, (0, 0), self.blur * look.blur)
        image = cv2.multiply(image, self.light, dtype=cv2.CV_16S)
        y, x = rng.integers(SPACE, size=2).tolist()
        noise = self.noise[y : y + self.height, x : x + self.width]
        return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), dtype=np.uint8)

    def _mix(self) -> NDArray[np.float32]:
        """Returns the (3, 3) matrix that washes the colours out."""
        grey = np.array([[0.3, 0.59, 0.11]], dtype=np.float32)
        return self.saturation * np.eye(3, dtype=np.float32) + (1 - self.saturation) * np.repeat(grey, 3, axis=0)

    def _curves(self, brightness: float) -> Image:
        """Returns the table (256, 1, 3) from a value to what the camera records of it."""
        value = np.linspace(0, 1, 256)[:, None] ** self.gamma
        value = 0.5 + self.contrast * (value * self.gains * self.exposure * brightness - 0.5)
        return np.clip(255 * value, 0, 255).astype(np.uint8)[:, None]


def draw_pole(image: Image, x: float, width: float, colour: Colour) -> None:
    """Draws a lit post from the top to the bottom of `image`, `x` and `width` being fractions of the image's width."""
    full = image.shape[1]
    left, right = int((x - width / 2) * full), int((x + width / 2) * full)
    lit = (2 * left + right) // 3
    image[:, max(0, left) : max(0, right)] = scaled(colour, 0.75)
    image[:, max(0, left) : max(0, lit)] = colour


def draw_bench(image: Image, top: float, colour: Colour) -> None:
    """Draws the slats of a bench or a railing across `image` from the height `top`, a fraction from above."""
    height, width = image.shape[:2]
    thick = max(2, height // 22)
    start = int(top * height)
    for row in range(3):
        y = start + row * (thick * 3 // 2)
        image[y : y + thick] = scaled(colour, 1.0 - 0.15 * row)
    for x in (width // 8, width * 7 // 8):
        image[start:, x - thick // 2 : x + thick // 2] = scaled(colour, 0.6)


def draw_bush(image: Image, x: float, top: float, colour: Colour, rng: np.random.Generator) -> None:
    """Draws leaves that hide what is near `x` and below `top` (fractions of the width and, from above, the height)."""
    height, width = image.shape[:2]
    spots = rng.random((24, 3)).tolist()
    for across, down, shade in spots:
        at = (int((x + 0.7 * (across - 0.5)) * width), int((top + (1.05 - top) * down) * height))
        cv2.circle(image, at, max(2, int((0.05 + 0.05 * shade) * width)), scaled(colour, 0.6 + 0.6 * shade), -1)
