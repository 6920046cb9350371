"""Synthetic walkers in motion: one person seen by one camera over some frames, as a detector and a tracker would cut it out.

Single frames are often bad: somebody passes before the person, a pillar hides it, the detector cuts it, the picture blurs. A
tracklet as a whole shows the person, so that a model gains by looking at more than one frame.
"""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reidlit.data.synthetic.cameras import OVERSIZE, Camera, Look, generator
from reidlit.data.synthetic.drawing import Image
from reidlit.data.synthetic.gait import Walk, draw_gait
from reidlit.data.synthetic.occluders import draw_occluders, draw_passer_by
from reidlit.data.synthetic.walkers import Key, Walkers, claim, draw_clutter, pick, write_picture

# Of the tracklets: raise it with every change that alters them, so that old files are not mixed with new ones.
VERSION = 1

FAULTS = 0.15  # share of frames in which the detector errs badly


class Box(NamedTuple):
    """What a detector cuts out, in pixels of the scene."""

    left: int
    top: int
    wide: int
    high: int


def draw_walk(rng: np.random.Generator, walkers: Walkers, key: Key, length: int) -> Walk:
    """Returns how a person walks past a camera."""
    camera = walkers.cameras[key.camid]
    high, wide = OVERSIZE * walkers.height, OVERSIZE * walkers.width
    gait = draw_gait(walkers.seed, key.pid)
    turning = float(rng.uniform(-1, 1)) if rng.random() < 0.3 else float(rng.normal(0, 0.1))
    return Walk(
        person=walkers.person(key.pid),
        gait=gait,
        phase=float(rng.uniform(0, 2 * math.pi)),
        yaw=camera.heading + math.pi * int(rng.integers(2)) + float(rng.normal(0, 0.3)),
        turn=turning / length,
        x=float(rng.uniform(0, camera.scene.shape[1])),
        y=camera.scene.shape[0] - float(rng.uniform(0.02, 0.2)) * high,
        unit=min(high, 2 * wide) * float(rng.uniform(0.8, 0.95)),
    )


def draw_boxes(rng: np.random.Generator, walk: Walk, length: int, high: int, wide: int) -> list[Box]:
    """Returns a box for each frame of a tracklet; a good one has `high` x `wide` pixels.

    A tracker lags a little and a detector trembles: the error of a frame resembles that of the frame before. In some frames
    the detector errs badly.
    """
    boxes = []
    error = np.zeros(3)
    for frame in range(length):
        error = 0.7 * error + rng.normal(0, (0.05, 0.02, 0.04))
        place = walk.place(frame)
        size = math.exp(error[2])
        tall, broad = high * size, wide * size * math.exp(float(rng.normal(0, 0.05)))
        left = place.x - broad / 2 + error[0] * wide
        top = walk.y - walk.unit / 2 - tall / 2 + error[1] * high
        if rng.random() < FAULTS:
            left, top, broad, tall = _fault(rng, left, top, broad, tall)
        boxes.append(Box(round(left), round(top), max(8, round(broad)), max(8, round(tall))))
    return boxes


def _fault(
    rng: np.random.Generator, left: float, top: float, wide: float, high: float
) -> tuple[float, float, float, float]:
    """Returns a box (left, top, wide, high) made wrong."""
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
            return (
                left - wide * (grown - 1) * float(rng.random()),
                top - high * (grown - 1) * 0.7,
                wide * grown,
                high * grown,
            )


class Tracklets:
    """Draws the same tracklets of walkers again and again.

    A tracklet depends on the walkers' seed and size, its key and `frames`, not on what was drawn before.

    Args:
        walkers: the people and the cameras.
        frames: of a tracklet, give or take a third.

    Raises:
        ValueError: if `frames` is less than 1.
    """

    def __init__(self, walkers: Walkers, frames: int = 12) -> None:
        if frames < 1:
            raise ValueError(f"frames must be at least 1, got {frames}")
        self.walkers = walkers
        self.frames = frames

    def length(self, pid: int, camid: int, shot: int) -> int:
        """Returns how many frames a tracklet has."""
        return self._start(Key(pid, camid, shot))[1]

    def draw(self, pid: int, camid: int, shot: int) -> list[Image]:
        """Draws the frames of one tracklet in temporal order.

        Args:
            pid: who; see `Walkers.draw`.
            camid: seen by which camera.
            shot: likewise.

        Returns:
            Pictures (height, width, 3) uint8, RGB.

        Raises:
            ValueError: if there is no such identity, camera or shot.
        """
        walkers, key = self.walkers, Key(pid, camid, shot)
        walkers.check(*key)
        rng, length = self._start(key)
        camera = walkers.cameras[camid]
        high, wide = OVERSIZE * walkers.height, OVERSIZE * walkers.width
        walk = draw_walk(rng, walkers, key, length)
        boxes = draw_boxes(rng, walk, length, high, wide)
        left, top, scene = _scenery(rng, camera, boxes, wide)
        behind = [draw_passer_by(rng, walk, float(rng.uniform(0, length)), 0.92)] if rng.random() < 0.3 else []
        drawn = [*behind, walk, *draw_occluders(rng, walk, length)]
        detail, brightness = float(rng.uniform(0.75, 1.0)), float(rng.uniform(0.85, 1.15))
        pictures = []
        for frame, box in enumerate(boxes):
            x, y = box.left - left, box.top - top
            canvas = scene[y : y + box.high, x : x + box.wide].copy()
            for each in drawn:
                each.draw(canvas, box.left, box.top, frame)
            blur = float(rng.uniform(0.7, 1.3)) * (float(rng.uniform(2, 4)) if rng.random() < 0.15 else 1.0)
            look = Look(detail * float(rng.uniform(0.8, 1.0)), brightness * float(rng.uniform(0.95, 1.05)), blur)
            pictures.append(camera.expose(canvas, look, rng))
        return pictures

    def files(self, folder: Path, pid: int, camid: int, shot: int) -> list[Path]:
        """Returns where a tracklet's frames lie: `folder/0007_c2_00/003.jpg`; cameras count from 1, frames from 0."""
        place = folder / Walkers.file_name(pid, camid, shot).removesuffix(".jpg")
        return [place / f"{frame:03d}.jpg" for frame in range(self.length(pid, camid, shot))]

    def write(self, folder: Path, keys: Iterable[tuple[int, int, int]]) -> list[list[Path]]:
        """Writes the frames of tracklets as JPEG files, except those that are there already; see `Walkers.write`.

        Args:
            folder: where to; made if it is missing.
            keys: which tracklets, as (pid, camid, shot).

        Returns:
            The files of each tracklet, whether written now or before.

        Raises:
            ValueError: if a key names no tracklet, or if `folder` holds those of another seed, size or length.
        """
        folder.mkdir(parents=True, exist_ok=True)
        walkers = self.walkers
        size = {"height": walkers.height, "width": walkers.width, "frames": self.frames}
        claim(folder, {"tracklets": VERSION, "seed": walkers.seed, **size})
        written = []
        for key in keys:
            files = self.files(folder, *key)
            place = files[0].parent
            place.mkdir(exist_ok=True)
            there = {entry.name for entry in os.scandir(place)}
            if any(file.name not in there for file in files):
                for file, picture in zip(files, self.draw(*key), strict=True):
                    if file.name not in there:
                        write_picture(file, picture)
            written.append(files)
        return written

    def _start(self, key: Key) -> tuple[np.random.Generator, int]:
        """Returns a tracklet's random numbers and its length, which is the first of them."""
        rng = generator(self.walkers.seed, 4, *key)
        return rng, int(rng.integers(-(-2 * self.frames // 3), 4 * self.frames // 3 + 1))


def _scenery(rng: np.random.Generator, camera: Camera, boxes: list[Box], wide: int) -> tuple[int, int, Image]:
    """Returns the part of the scene that a tracklet's boxes see, with things that stand about: its corner and its pixels."""
    left, top = min(box.left for box in boxes), min(box.top for box in boxes)
    right, bottom = max(box.left + box.wide for box in boxes), max(box.top + box.high for box in boxes)
    scene = camera.view(left, top, right - left, bottom - top)
    for x in range(0, right - left, wide):
        draw_clutter(scene[:, x : x + wide], rng)
    return left, top, scene
