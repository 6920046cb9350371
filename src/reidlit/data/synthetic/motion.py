"""Tracklets of synthetic pedestrians, with the errors of a detector and a tracker.

In single frames, the person may be hidden by passers-by or objects, cropped by the detector, or blurred. A model
therefore benefits from several frames.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reidlit.data.synthetic.cameras import OVERSIZE, Camera, Look
from reidlit.data.synthetic.drawing import Image, generator, pick
from reidlit.data.synthetic.occluders import Occluder, draw_occluders, draw_passer_by
from reidlit.data.synthetic.pedestrians import Key, Pedestrians, claim, draw_clutter, write_missing
from reidlit.data.synthetic.people import draw_gait
from reidlit.data.synthetic.walking import Walk
from reidlit.locks import locked

# Version of the tracklets: raise it with every change that alters them, so that old files are not mixed with new ones.
VERSION = 1

FAULTS = 0.15  # fraction of frames with a large detection error


class Box(NamedTuple):
    """Detected box in pixels of the scene."""

    left: int
    top: int
    wide: int
    high: int


def draw_walk(rng: np.random.Generator, pedestrians: Pedestrians, key: Key, length: int) -> Walk:
    """Return the walk of a person past a camera."""
    camera = pedestrians.cameras[key.camid]
    high, wide = OVERSIZE * pedestrians.height, OVERSIZE * pedestrians.width
    turning = float(rng.uniform(-1, 1)) if rng.random() < 0.3 else float(rng.normal(0, 0.1))
    return Walk(
        person=pedestrians.person(key.pid),
        gait=draw_gait(pedestrians.seed, key.pid),
        phase=float(rng.uniform(0, 2 * math.pi)),
        yaw=camera.heading + math.pi * int(rng.integers(2)) + float(rng.normal(0, 0.3)),
        turn=turning / length,
        x=float(rng.uniform(0, camera.scene.shape[1])),
        y=camera.scene.shape[0] - float(rng.uniform(0.02, 0.2)) * high,
        unit=min(high, 2 * wide) * float(rng.uniform(0.8, 0.95)),
    )


def draw_boxes(rng: np.random.Generator, walk: Walk, length: int, high: int, wide: int) -> list[Box]:
    """Return a box for each frame of a tracklet; an accurate box has `high` x `wide` pixels.

    Errors are correlated between consecutive frames, as those of a tracker. Some frames have a large detection error.
    """
    boxes = []
    error = np.zeros(3)
    for frame in range(length):
        error = 0.7 * error + rng.normal(0, (0.05, 0.02, 0.04))
        size = math.exp(error[2])
        tall, broad = high * size, wide * size * math.exp(float(rng.normal(0, 0.05)))
        left = walk.position(frame).x - broad / 2 + error[0] * wide
        top = walk.y - walk.unit / 2 - tall / 2 + error[1] * high
        if rng.random() < FAULTS:
            left, top, broad, tall = _fault(rng, left, top, broad, tall)
        boxes.append(Box(round(left), round(top), max(8, round(broad)), max(8, round(tall))))
    return boxes


def _fault(
    rng: np.random.Generator, left: float, top: float, wide: float, high: float
) -> tuple[float, float, float, float]:
    """Return a box (left, top, wide, high) with an error."""
    amount = float(rng.uniform(0.5, 1))
    match pick(rng, ("aside", "aside", "legs lost", "head lost", "too large")):
        case "aside":
            return left + 0.55 * amount * wide * pick(rng, (-1, 1)), top, wide, high
        case "legs lost":
            return left, top, wide, high * (1 - 0.55 * amount)
        case "head lost":
            return left, top + 0.45 * amount * high, wide, high * (1 - 0.45 * amount)
        case _:
            grown = 1 + 0.8 * amount
            left -= wide * (grown - 1) * float(rng.random())
            return left, top - high * (grown - 1) * 0.7, wide * grown, high * grown


@dataclass(eq=False)
class Tracklets:
    """Tracklets of synthetic pedestrians, rendered on demand.

    A tracklet depends on the seed and size of the pedestrians, its key and `frames`, not on previous drawings.

    Attributes:
        pedestrians: People and cameras.
        frames: Mean number of frames of a tracklet; lengths differ from it by up to a third.

    Raises:
        ValueError: If `frames` is less than 1.
    """

    pedestrians: Pedestrians
    frames: int = 12

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames must be at least 1, got {self.frames}")

    def keys(self) -> Iterator[Key]:
        """Yield the keys of all tracklets, identity by identity."""
        return self.pedestrians.keys()

    def length(self, pid: int, camid: int, shot: int) -> int:
        """Return the number of frames of a tracklet."""
        return self._start(Key(pid, camid, shot))[1]

    def draw(self, pid: int, camid: int, shot: int) -> list[Image]:
        """Draw the frames of one tracklet in temporal order; arguments and errors as for `Pedestrians.draw`."""
        pedestrians, key = self.pedestrians, Key(pid, camid, shot)
        pedestrians.check(*key)
        rng, length = self._start(key)
        camera = pedestrians.cameras[camid]
        high, wide = OVERSIZE * pedestrians.height, OVERSIZE * pedestrians.width
        walk = draw_walk(rng, pedestrians, key, length)
        boxes = draw_boxes(rng, walk, length, high, wide)
        left, top, scene = _scenery(rng, camera, boxes, wide)
        drawn: list[Occluder] = [walk.draw]
        if rng.random() < 0.3:  # a passer-by behind the person
            drawn.insert(0, draw_passer_by(rng, walk, float(rng.uniform(0, length)), 0.92).draw)
        drawn += draw_occluders(rng, walk, length)
        detail, brightness = float(rng.uniform(0.75, 1.0)), float(rng.uniform(0.85, 1.15))
        images = []
        for frame, box in enumerate(boxes):
            x, y = box.left - left, box.top - top
            canvas = scene[y : y + box.high, x : x + box.wide].copy()
            for draw in drawn:
                draw(canvas, box.left, box.top, frame)
            blur = float(rng.uniform(0.7, 1.3)) * (float(rng.uniform(2, 4)) if rng.random() < 0.15 else 1.0)
            look = Look(detail * float(rng.uniform(0.8, 1.0)), brightness * float(rng.uniform(0.95, 1.05)), blur)
            images.append(camera.expose(canvas, look, rng))
        return images

    def files(self, folder: Path, pid: int, camid: int, shot: int) -> list[Path]:
        """Return the files of a tracklet's frames, `folder/0007_c2_00/003.jpg`; cameras count from 1, frames from 0."""
        tracklet = folder / self.pedestrians.file_name(pid, camid, shot).removesuffix(".jpg")
        return [tracklet / f"{frame:03d}.jpg" for frame in range(self.length(pid, camid, shot))]

    def path(self, folder: Path, pid: int, camid: int, shot: int) -> tuple[str, ...]:
        """Return the paths of a tracklet's frames below `folder`."""
        return tuple(map(str, self.files(folder, pid, camid, shot)))

    def write(self, folder: Path, keys: Iterable[tuple[int, int, int]]) -> list[list[Path]]:
        """Write the frames of tracklets as JPEG files, except those that already exist; see `Pedestrians.write`.

        Returns:
            The files of each tracklet, whether written now or before.

        Raises:
            ValueError: If a key names no tracklet, or if `folder` holds tracklets of another seed, size or length.
        """
        size = {"height": self.pedestrians.height, "width": self.pedestrians.width, "frames": self.frames}
        with locked(folder):
            claim(folder, {"tracklets": VERSION, "seed": self.pedestrians.seed, **size})
            return [write_missing(self.files(folder, *key), self.draw, key) for key in keys]

    def _start(self, key: Key) -> tuple[np.random.Generator, int]:
        """Return the random number generator of a tracklet and its length, the first number drawn from it."""
        rng = generator(self.pedestrians.seed, 4, *key)
        return rng, int(rng.integers(-(-2 * self.frames // 3), 4 * self.frames // 3 + 1))


def _scenery(rng: np.random.Generator, camera: Camera, boxes: list[Box], wide: int) -> tuple[int, int, Image]:
    """Return the left and top edge and the pixels, with clutter, of the scene around the boxes of a tracklet."""
    left, top = min(box.left for box in boxes), min(box.top for box in boxes)
    right, bottom = max(box.left + box.wide for box in boxes), max(box.top + box.high for box in boxes)
    scene = camera.view(left, top, right - left, bottom - top)
    for x in range(0, right - left, wide):
        draw_clutter(scene[:, x : x + wide], rng)
    return left, top, scene
