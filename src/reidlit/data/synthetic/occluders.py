"""What hides a drawn person in some frames of its tracklet: passers-by, and things of the scene that it walks behind."""

from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np

from reidlit.data.synthetic.cameras import draw_pole
from reidlit.data.synthetic.drawing import Colour, Image, Point, scaled
from reidlit.data.synthetic.gait import Gait, Walk
from reidlit.data.synthetic.walkers import WARDROBE, draw_identity, pick

FRAMES_APART = 6  # one thing to pass in so many frames, in the mean
MOST = 3  # things to pass in a tracklet
BRISK = (
    (1.0, 1.4),
    (0.35, 0.5),
    (0.1, 0.8),
)  # the gait of passers-by: pace, stride, elbow; they are gone in some frames
SLOW = 0.08  # body heights a frame; whoever drifts less would stay behind a thing for half of the tracklet


class Occluder(Protocol):
    """Something before the person."""

    def draw(self, canvas: Image, left: int, top: int, frame: int) -> None:
        """Draws it on a part of the scene whose corner is at (`left`, `top`), in pixels of the scene."""


@dataclass(frozen=True, slots=True)
class Pillar:
    """A post or a pillar; lengths are pixels of the scene."""

    x: float
    wide: float
    colour: Colour

    def draw(self, canvas: Image, left: int, top: int, frame: int) -> None:
        """See `Occluder`."""
        del top, frame
        full = canvas.shape[1]
        draw_pole(canvas, (self.x - left) / full, self.wide / full, self.colour)


@dataclass(frozen=True, slots=True)
class Bench:
    """A bench or a railing of some length, whose upper edge is `high` above the ground `y`."""

    x: float
    y: float
    wide: float
    high: float
    colour: Colour

    def draw(self, canvas: Image, left: int, top: int, frame: int) -> None:
        """See `Occluder`."""
        del frame
        start, ground, slat = self.x - self.wide / 2 - left, self.y - top, self.high / 5
        for part in (0.1, 0.85):
            self._plank(canvas, (start + part * self.wide, ground - self.high), (0.05 * self.wide, self.high), 0.6)
        for row in range(3):
            self._plank(canvas, (start, ground - self.high + 1.4 * row * slat), (self.wide, slat), 1 - 0.15 * row)

    def _plank(self, canvas: Image, corner: Point, size: Point, light: float) -> None:
        x, y = corner
        opposite = (int(x + size[0]), int(y + size[1]))
        cv2.rectangle(canvas, (int(x), int(y)), opposite, scaled(self.colour, light), -1)


@dataclass(frozen=True, slots=True)
class Bush:
    """Leaves, each (x, y, radius, brightness)."""

    leaves: tuple[tuple[float, float, float, float], ...]
    colour: Colour

    def draw(self, canvas: Image, left: int, top: int, frame: int) -> None:
        """See `Occluder`."""
        del frame
        for x, y, radius, light in self.leaves:
            cv2.circle(canvas, (int(x - left), int(y - top)), int(radius), scaled(self.colour, light), -1)


def draw_passer_by(rng: np.random.Generator, walk: Walk, meeting: float, nearer: float) -> Walk:
    """Returns a stranger who comes across the person's way and is at the same place of the image in frame `meeting`."""
    seed = int(rng.integers(1 << 31))
    drift = walk.drift(meeting)
    side = -np.sign(drift) if abs(drift) > SLOW * walk.unit else float(pick(rng, (-1, 1)))
    stranger = Walk(
        person=draw_identity(seed, 0),
        gait=Gait(*(float(rng.uniform(*limits)) for limits in BRISK)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        yaw=side * float(rng.normal(np.pi / 2, 0.3)),
        turn=0.0,
        x=0.0,
        y=walk.y + (nearer - 1) * walk.unit * 0.5,
        unit=walk.unit * nearer * float(rng.uniform(0.94, 1.06)),
    )
    return replace(stranger, x=walk.place(meeting).x - stranger.place(meeting).x)


def draw_thing(rng: np.random.Generator, walk: Walk, meeting: float) -> Occluder:
    """Returns a pillar, a bench or a bush that the person walks behind in frame `meeting`."""
    x, y, unit = walk.place(meeting).x, walk.y, walk.unit
    kind = pick(rng, ("pillar", "pillar", "bench", "bush"))
    if kind == "pillar":
        return Pillar(x, unit * float(rng.uniform(0.12, 0.35)), pick(rng, WARDROBE[:6]))
    if kind == "bench":
        high, wide = unit * float(rng.uniform(0.3, 0.5)), unit * float(rng.uniform(0.5, 0.9))
        return Bench(x, y + 0.02 * unit, wide, high, pick(rng, WARDROBE[1:6]))
    high = float(rng.uniform(0.4, 0.8))
    spots = rng.random((50, 4)) - (0.5, 0, 0, 0)
    spots = spots * (0.5, high, 0.04, 0.6) + (0, -0.03, 0.04, 0.6)
    leaves = tuple(
        (x + unit * across, y - unit * up, unit * radius, light) for across, up, radius, light in spots.tolist()
    )
    return Bush(leaves, (int(rng.integers(50, 90)), int(rng.integers(100, 130)), 60))


def draw_occluders(rng: np.random.Generator, walk: Walk, length: int) -> list[Occluder]:
    """Returns what hides the person in a tracklet of `length` frames, the nearest to the camera last."""
    found: list[Occluder] = []
    swift = min(abs(walk.drift(frame)) for frame in range(length)) > SLOW * walk.unit
    for _ in range(min(MOST, int(rng.poisson(length / FRAMES_APART)))):
        meeting = float(rng.uniform(-1, length))
        if swift and rng.random() < 0.45:
            found.append(draw_thing(rng, walk, meeting))
        else:
            found.append(draw_passer_by(rng, walk, meeting, nearer=float(rng.uniform(1.02, 1.2))))
    return found
