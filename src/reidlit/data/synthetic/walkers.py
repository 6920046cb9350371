"""Synthetic pedestrians: a small re-identification problem without a download, for the demo and the tests.

Identities share a limited wardrobe, so look-alikes exist, and cameras differ in place, colours, sharpness and the side from
which they see people. Colours alone therefore do not tell identities apart, and a network has something to learn.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from reidlit.data.synthetic.cameras import Camera, draw_bench, draw_bush, draw_pole, generator
from reidlit.data.synthetic.drawing import Colour, Image, Person, Place, Pose, Upper, draw_person
from reidlit.files import atomic_write

# Of the pictures: raise it with every change that alters them, so that old files are not mixed with new ones.
VERSION = 1
NOTE = "walkers.json"  # says with which settings a folder was written

WARDROBE: tuple[Colour, ...] = (
    (30, 30, 34),
    (78, 78, 82),
    (145, 145, 148),
    (228, 226, 222),
    (198, 178, 142),
    (108, 74, 50),
    (178, 40, 46),
    (210, 150, 46),
    (58, 112, 66),
    (34, 44, 92),
    (66, 112, 184),
    (156, 88, 142),
)
TROUSERS = tuple(WARDROBE[index] for index in (0, 0, 1, 2, 4, 5, 8, 9, 9, 10))  # mostly dark or blue
SKINS: tuple[Colour, ...] = ((238, 200, 176), (222, 178, 148), (190, 140, 104), (142, 98, 70), (92, 62, 46))
HAIRS: tuple[Colour, ...] = ((24, 20, 20), (24, 20, 20), (66, 44, 30), (112, 78, 46), (196, 162, 98), (158, 158, 160))

T = TypeVar("T")


class Key(NamedTuple):
    """Names one picture: who, seen by which camera, in which shot. All count from 0."""

    pid: int
    camid: int
    shot: int


def pick(rng: np.random.Generator, options: tuple[T, ...]) -> T:
    """Returns one of the options; repeating one makes it likelier."""
    return options[int(rng.integers(len(options)))]


def shade(rng: np.random.Generator, colour: Colour) -> Colour:
    """Returns the colour a little changed: no two garments are dyed alike, but many nearly."""
    red, green, blue = np.clip(np.array(colour) + rng.integers(-10, 11, size=3), 0, 255).tolist()
    return red, green, blue


def draw_identity(seed: int, pid: int) -> Person:
    """Returns what identity `pid` looks like, which depends on `seed` and `pid` only."""
    rng = generator(seed, 0, pid)
    upper: Upper = pick(rng, ("tshirt", "tshirt", "longsleeve", "longsleeve", "jacket", "open_jacket", "dress"))
    colour = pick(rng, WARDROBE)
    second = pick(rng, tuple(other for other in WARDROBE if other != colour))
    hem = {"tshirt": 0.03, "longsleeve": 0.03, "jacket": 0.06, "open_jacket": 0.06, "dress": 0.2}[upper]
    long_jacket = upper == "jacket" and rng.random() < 0.4
    return Person(
        build=float(rng.uniform(0.85, 1.3)),
        hip=float(rng.uniform(0.47, 0.53)),
        head=float(rng.uniform(0.066, 0.078)),
        skin=shade(rng, pick(rng, SKINS)),
        hair=shade(rng, pick(rng, HAIRS)),
        hair_style=pick(rng, ("short", "short", "bald", "long", "long", "bun", "afro")),
        upper=upper,
        upper_colour=shade(rng, colour),
        second_colour=shade(rng, second),
        pattern=pick(rng, ("plain", "plain", "stripes", "pinstripes", "blocks", "sleeves", "logo")),
        hem=hem + 0.14 * long_jacket + float(rng.uniform(0.0, 0.03)),
        lower=pick(rng, ("trousers", "trousers", "trousers", "shorts", "skirt")),
        lower_colour=shade(rng, pick(rng, TROUSERS)),
        shoes=shade(rng, pick(rng, (WARDROBE[0], WARDROBE[0], WARDROBE[3], WARDROBE[5], WARDROBE[6]))),
        bag=pick(rng, ("none", "none", "backpack", "shoulder", "hand")),
        bag_colour=shade(rng, pick(rng, WARDROBE)),
        hat=pick(rng, ("none", "none", "none", "none", "cap", "beanie")),
        hat_colour=shade(rng, pick(rng, WARDROBE)),
    )


def draw_pose(rng: np.random.Generator, heading: float) -> Pose:
    """Returns a pose of somebody who walks along `heading`, or comes from the other side."""
    return Pose(
        yaw=heading + math.pi * int(rng.integers(2)) + float(rng.normal(0.0, 0.35)),
        phase=float(rng.uniform(0.0, 2 * math.pi)),
        stride=float(rng.uniform(0.1, 0.5)),
        elbow=float(rng.uniform(0.1, 0.8)),
    )


def draw_place(rng: np.random.Generator, height: int, width: int) -> Place:
    """Returns where a detector that errs a little puts a person into a crop of `height` x `width` pixels."""
    unit = min(height, 2 * width) * float(rng.uniform(0.8, 1.0))
    x = width * float(0.5 + np.clip(rng.normal(0.0, 0.06), -0.15, 0.15))
    return Place(x, height * 0.5 + unit * (0.5 + float(rng.uniform(-0.05, 0.05))), unit)


def draw_clutter(canvas: Image, rng: np.random.Generator) -> None:
    """Draws up to three things of any colour that stand behind the person."""
    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(4))):
        x, y, wide, high = rng.random(4).tolist()
        left, top = int((1.2 * x - 0.2) * width), int((0.2 + 0.6 * y) * height)
        corner = (left + int((0.1 + 0.25 * wide) * width), top + int((0.05 + 0.25 * high) * height))
        cv2.rectangle(canvas, (left, top), corner, shade(rng, pick(rng, WARDROBE)), -1)


def draw_occluder(canvas: Image, rng: np.random.Generator, heading: float) -> None:
    """Draws, in a third of the shots, something before the person: a post, a bench, a bush or a passer-by."""
    height, width = canvas.shape[:2]
    chance = float(rng.random())
    if chance < 0.09:
        draw_pole(canvas, float(rng.uniform(0.15, 0.85)), float(rng.uniform(0.06, 0.16)), pick(rng, WARDROBE[:6]))
    elif chance < 0.17:
        draw_bench(canvas, float(rng.uniform(0.6, 0.85)), pick(rng, WARDROBE[1:6]))
    elif chance < 0.25:
        bush = (int(rng.integers(50, 90)), int(rng.integers(100, 130)), 60)
        draw_bush(canvas, float(rng.uniform(0, 1)), float(rng.uniform(0.55, 0.8)), bush, rng)
    elif chance < 0.33:
        unit = min(height, 2 * width) * float(rng.uniform(0.9, 1.15))
        x = width * (0.5 + float(rng.uniform(0.36, 0.55)) * pick(rng, (-1, 1)))
        stranger = draw_identity(int(rng.integers(1 << 31)), 0)
        draw_person(canvas, stranger, draw_pose(rng, heading), Place(x, height * 0.5 + unit * 0.52, unit))


def write_picture(file: Path, picture: Image) -> None:
    """Writes a picture as a JPEG file, whole or not at all."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    atomic_write(file, data.tobytes())


def claim(folder: Path, mine: dict[str, int]) -> None:
    """Notes the settings of drawing in `folder`, or raises a ValueError if it was written with others."""
    note = folder / NOTE
    if not note.exists():
        atomic_write(note, json.dumps(mine).encode())
        return
    theirs = json.loads(note.read_text())
    if theirs != mine:
        raise ValueError(f"folder {folder} holds pictures drawn with {theirs}, not {mine}: delete it or name another")


class Walkers:
    """Draws the same synthetic pedestrians again and again.

    A picture depends on the seed, its key and the size, not on what was drawn before nor on how many identities, cameras or
    shots there are.

    Attributes:
        num_identities: how many `pid`s there are.
        num_cameras: how many `camid`s.
        shots: how many pictures of each identity by each camera.
        cameras: what each `camid` looks at and how it shows it.
    """

    def __init__(
        self,
        num_identities: int = 96,
        num_cameras: int = 6,
        shots: int = 4,
        height: int = 128,
        width: int = 64,
        seed: int = 0,
    ) -> None:
        """Builds the cameras, some milliseconds each; the pictures are drawn on demand.

        Args:
            num_identities: at least 1.
            num_cameras: at least 2, since re-identification is across cameras.
            shots: at least 1.
            height: of a picture in pixels, at least 32.
            width: of a picture in pixels, at least 16.
            seed: at least 0; another seed is another world, with other people and other cameras.

        Raises:
            ValueError: if an argument is smaller than allowed.
        """
        given = {
            "num_identities": (num_identities, 1),
            "num_cameras": (num_cameras, 2),
            "shots": (shots, 1),
            "height": (height, 32),
            "width": (width, 16),
            "seed": (seed, 0),
        }
        for name, (value, least) in given.items():
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.num_identities, self.num_cameras, self.shots = num_identities, num_cameras, shots
        self.height, self.width, self.seed = height, width, seed
        self.cameras = [Camera(seed, camid, height, width) for camid in range(num_cameras)]
        self._people: dict[int, Person] = {}

    def keys(self, pids: Iterable[int] | None = None) -> Iterator[Key]:
        """Yields the keys of all pictures of the given identities (default: of all), identity by identity."""
        for pid in range(self.num_identities) if pids is None else pids:
            for camid in range(self.num_cameras):
                for shot in range(self.shots):
                    yield Key(pid, camid, shot)

    def draw(self, pid: int, camid: int, shot: int) -> Image:
        """Draws one picture.

        Args:
            pid: who, 0 to `num_identities` - 1.
            camid: seen by which camera, 0 to `num_cameras` - 1.
            shot: 0 to `shots` - 1.

        Returns:
            (height, width, 3) uint8, RGB.

        Raises:
            ValueError: if there is no such identity, camera or shot.
        """
        self.check(pid, camid, shot)
        camera = self.cameras[camid]
        rng = generator(self.seed, 2, pid, camid, shot)
        canvas = camera.background(rng)
        draw_clutter(canvas, rng)
        place = draw_place(rng, *canvas.shape[:2])
        draw_person(canvas, self.person(pid), draw_pose(rng, camera.heading), place)
        draw_occluder(canvas, rng, camera.heading)
        return camera.develop(canvas, rng)

    def check(self, pid: int, camid: int, shot: int) -> None:
        """Raises a ValueError if there is no such identity, camera or shot."""
        limits = {"pid": (pid, self.num_identities), "camid": (camid, self.num_cameras), "shot": (shot, self.shots)}
        for name, (value, count) in limits.items():
            if not 0 <= value < count:
                raise ValueError(f"{name} must be between 0 and {count - 1}, got {value}")

    def person(self, pid: int) -> Person:
        """Returns what identity `pid` looks like."""
        if pid not in self._people:
            self._people[pid] = draw_identity(self.seed, pid)
        return self._people[pid]

    @staticmethod
    def file_name(pid: int, camid: int, shot: int) -> str:
        """Returns the name of a picture's file, in which cameras count from 1: `0007_c2_00.jpg`."""
        return f"{pid:04d}_c{camid + 1}_{shot:02d}.jpg"

    def write(self, folder: Path, keys: Iterable[tuple[int, int, int]]) -> list[Path]:
        """Writes pictures as JPEG files, except those that are there already.

        Each file appears whole or not at all, so several processes may write the same folder, and a run that was killed may
        go on.

        Args:
            folder: where to; made if it is missing.
            keys: which pictures, as (pid, camid, shot), for instance from `keys`.

        Returns:
            The files in the order of `keys`, whether written now or before.

        Raises:
            ValueError: if a key names no picture, or if `folder` holds pictures of another seed or size.
        """
        folder.mkdir(parents=True, exist_ok=True)
        claim(folder, {"version": VERSION, "seed": self.seed, "height": self.height, "width": self.width})
        there = {entry.name for entry in os.scandir(folder)}
        files = []
        for pid, camid, shot in keys:
            file = folder / self.file_name(pid, camid, shot)
            if file.name not in there:
                write_picture(file, self.draw(pid, camid, shot))
                there.add(file.name)
            files.append(file)
        return files
