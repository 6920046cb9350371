"""Objects and passers-by in front of a synthetic pedestrian."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import cv2
import numpy as np

from reidlit.data.synthetic.drawing import Colour, Image, pick, scaled
from reidlit.data.synthetic.people import WARDROBE, Gait, draw_identity
from reidlit.data.synthetic.walking import Walk

# Draws something on a part of the scene, given the part's left and top edges in pixels of the scene and the frame.
Occluder = Callable[[Image, int, int, int], None]
Leaf = tuple[float, float, float, float]  # x, y and radius in pixels, brightness

FRAMES_APART = 6  # mean number of frames between two occluders
MOST = 3  # maximum number of occluders in a tracklet
BRISK = ((1.0, 1.4), (0.35, 0.5), (0.1, 0.8))  # pace, stride and elbow of passers-by, who leave after a few frames
SLOW = 0.08  # body heights per frame; a slower person would be hidden by an object for half of the tracklet


def draw_pole(image: Image, x: float, width: float, colour: Colour) -> None:
    """Draw a lit post from the top to the bottom; `x` and `width` are fractions of the image's width."""
    full = image.shape[1]
    left, right = int((x - width / 2) * full), int((x + width / 2) * full)
    lit = (2 * left + right) // 3
    image[:, max(0, left) : max(0, right)] = scaled(colour, 0.75)
    image[:, max(0, left) : max(0, lit)] = colour


def draw_railing(image: Image, top: float, colour: Colour) -> None:
    """Draw the slats of a bench or a railing across the image, from `top` down, a fraction of the height from above."""
    height, width = image.shape[:2]
    thick, start = max(2, height // 22), int(top * height)
    for row in range(3):
        y = start + row * (thick * 3 // 2)
        image[y : y + thick] = scaled(colour, 1.0 - 0.15 * row)
    for x in (width // 8, width * 7 // 8):
        image[start:, x - thick // 2 : x + thick // 2] = scaled(colour, 0.6)


def draw_bench(image: Image, left: float, ground: float, wide: float, high: float, colour: Colour) -> None:
    """Draw a bench of `wide` x `high` pixels on the ground."""
    top = ground - high
    planks = [(left + part * wide, top, 0.05 * wide, high, 0.6) for part in (0.1, 0.85)]
    planks += [(left, top + 1.4 * row * (high / 5), wide, high / 5, 1 - 0.15 * row) for row in range(3)]
    for x, y, across, down, light in planks:
        cv2.rectangle(image, (int(x), int(y)), (int(x + across), int(y + down)), scaled(colour, light), -1)


def draw_leaves(image: Image, leaves: Iterable[Leaf], colour: Colour, left: float = 0, top: float = 0) -> None:
    """Draw leaves on an image with the corner (`left`, `top`)."""
    for x, y, radius, light in leaves:
        cv2.circle(image, (int(x - left), int(y - top)), int(radius), scaled(colour, light), -1)


def leaf_colour(rng: np.random.Generator) -> Colour:
    """Return a random shade of green."""
    return (int(rng.integers(50, 90)), int(rng.integers(100, 130)), 60)


def draw_passer_by(rng: np.random.Generator, walk: Walk, meeting: float, nearer: float) -> Walk:
    """Return the walk of a stranger who crosses the person's path and is at the same position in frame `meeting`."""
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
    return replace(stranger, x=walk.position(meeting).x - stranger.position(meeting).x)


def draw_thing(rng: np.random.Generator, walk: Walk, meeting: float) -> Occluder:
    """Return a pillar, a bench or a bush that the person walks behind in frame `meeting`."""
    x, y, unit = walk.position(meeting).x, walk.y, walk.unit
    kind = pick(rng, ("pillar", "pillar", "bench", "bush"))
    if kind == "pillar":
        wide, paint = unit * float(rng.uniform(0.12, 0.35)), pick(rng, WARDROBE[:6])
        return lambda canvas, left, _top, _frame: draw_pole(
            canvas, (x - left) / canvas.shape[1], wide / canvas.shape[1], paint
        )
    if kind == "bench":
        high, long = unit * float(rng.uniform(0.3, 0.5)), unit * float(rng.uniform(0.5, 0.9))
        paint, ground = pick(rng, WARDROBE[1:6]), y + 0.02 * unit
        return lambda canvas, left, top, _frame: draw_bench(
            canvas, x - long / 2 - left, ground - top, long, high, paint
        )
    height = float(rng.uniform(0.4, 0.8))
    spots = (rng.random((50, 4)) - (0.5, 0, 0, 0)) * (0.5, height, 0.04, 0.6) + (0, -0.03, 0.04, 0.6)
    leaves = [(x + unit * across, y - unit * up, unit * radius, light) for across, up, radius, light in spots.tolist()]
    green = leaf_colour(rng)
    return lambda canvas, left, top, _frame: draw_leaves(canvas, leaves, green, left, top)


def draw_occluders(rng: np.random.Generator, walk: Walk, length: int) -> list[Occluder]:
    """Return the occluders of a person in a tracklet of `length` frames, the nearest to the camera last."""
    occluders: list[Occluder] = []
    swift = min(abs(walk.drift(frame)) for frame in range(length)) > SLOW * walk.unit
    for _ in range(min(MOST, int(rng.poisson(length / FRAMES_APART)))):
        meeting = float(rng.uniform(-1, length))
        if swift and rng.random() < 0.45:
            occluders.append(draw_thing(rng, walk, meeting))
        else:
            occluders.append(draw_passer_by(rng, walk, meeting, nearer=float(rng.uniform(1.02, 1.2))).draw)
    return occluders
