"""Images of synthetic pedestrians, for the demo and the tests.

Identities share a limited wardrobe, so look-alikes exist, and cameras differ in scene, colors, sharpness and the side
from which they see people. Colors alone are therefore not enough to distinguish identities.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product, starmap
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from reidlit.data.synthetic.cameras import Camera, Look
from reidlit.data.synthetic.drawing import Image, generator, pick
from reidlit.data.synthetic.figures import Pose, Position, draw_person
from reidlit.data.synthetic.occluders import draw_leaves, draw_pole, draw_railing, leaf_colour
from reidlit.data.synthetic.people import WARDROBE, Person, draw_identity, shade
from reidlit.files import atomic_write
from reidlit.locks import locked

# Increase this version with every change of the images, so that old and new files are not mixed.
VERSION = 1
NOTE = "walkers.json"  # records the settings with which a folder was written


class Key(NamedTuple):
    """Key of an image or tracklet. All numbers start at 0."""

    pid: int
    camid: int
    shot: int


def draw_pose(rng: np.random.Generator, heading: float) -> Pose:
    """Return a random pose of a person who walks along `heading` or in the opposite direction."""
    return Pose(
        yaw=heading + math.pi * int(rng.integers(2)) + float(rng.normal(0.0, 0.35)),
        phase=float(rng.uniform(0.0, 2 * math.pi)),
        stride=float(rng.uniform(0.1, 0.5)),
        elbow=float(rng.uniform(0.1, 0.8)),
    )


def draw_position(rng: np.random.Generator, height: int, width: int) -> Position:
    """Return the position of a person in a crop of `height` x `width` pixels, as from an inaccurate detector."""
    unit = min(height, 2 * width) * float(rng.uniform(0.8, 1.0))
    x = width * float(0.5 + np.clip(rng.normal(0.0, 0.06), -0.15, 0.15))
    return Position(x, height * 0.5 + unit * (0.5 + float(rng.uniform(-0.05, 0.05))), unit)


def draw_clutter(canvas: Image, rng: np.random.Generator) -> None:
    """Draw up to three objects of random colors behind the person."""
    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(4))):
        x, y, wide, high = rng.random(4).tolist()
        left, top = int((1.2 * x - 0.2) * width), int((0.2 + 0.6 * y) * height)
        corner = (left + int((0.1 + 0.25 * wide) * width), top + int((0.05 + 0.25 * high) * height))
        cv2.rectangle(canvas, (left, top), corner, shade(rng, pick(rng, WARDROBE)), -1)


def draw_occluder(canvas: Image, rng: np.random.Generator, heading: float) -> None:
    """Draw a post, a bench, a bush or a passer-by in front of the person, with a probability of one third."""
    height, width = canvas.shape[:2]
    chance = float(rng.random())
    if chance < 0.09:
        draw_pole(canvas, float(rng.uniform(0.15, 0.85)), float(rng.uniform(0.06, 0.16)), pick(rng, WARDROBE[:6]))
    elif chance < 0.17:
        draw_railing(canvas, float(rng.uniform(0.6, 0.85)), pick(rng, WARDROBE[1:6]))
    elif chance < 0.25:
        green, x, top = leaf_colour(rng), float(rng.uniform(0, 1)), float(rng.uniform(0.55, 0.8))
        across, down, size = rng.random((24, 3)).T
        x_at, y_at = (x + 0.7 * (across - 0.5)) * width, (top + (1.05 - top) * down) * height
        radii = np.maximum(2, (0.05 + 0.05 * size) * width)
        leaves = zip(x_at.tolist(), y_at.tolist(), radii.tolist(), (0.6 + 0.6 * size).tolist(), strict=True)
        draw_leaves(canvas, leaves, green)
    elif chance < 0.33:
        unit = min(height, 2 * width) * float(rng.uniform(0.9, 1.15))
        x = width * (0.5 + float(rng.uniform(0.36, 0.55)) * pick(rng, (-1, 1)))
        stranger = draw_identity(int(rng.integers(1 << 31)), 0)
        draw_person(canvas, stranger, draw_pose(rng, heading), Position(x, height * 0.5 + unit * 0.52, unit))


def claim(folder: Path, settings: dict[str, int]) -> None:
    """Create `folder` and record the settings in it.

    Raises:
        ValueError: If the folder was written with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / NOTE
    if not note.exists():
        atomic_write(note, json.dumps(settings).encode())
    elif (existing := json.loads(note.read_text())) != settings:
        raise ValueError(
            f"{folder} contains images rendered with {existing} instead of {settings}. Delete the folder or choose "
            "another."
        )


def write_missing(files: list[Path], draw: Callable[..., list[Image]], key: tuple[int, int, int]) -> list[Path]:
    """Write the missing JPEG files of a key atomically, and return all its files."""
    files[0].parent.mkdir(exist_ok=True)
    missing = {file for file in files if not file.exists()}
    for file, image in zip(files, draw(*key), strict=True) if missing else ():
        if file in missing:
            _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
            atomic_write(file, data.tobytes())
    return files


@dataclass(eq=False)
class Pedestrians:
    """Images of synthetic pedestrians, rendered on demand.

    An image depends on the seed, its key and the size, but not on earlier calls or on the numbers of identities,
    cameras and shots.

    Attributes:
        num_identities: Number of identities, at least 1.
        num_cameras: Number of cameras, at least 2, since re-identification is across cameras.
        shots: Number of images per identity and camera, at least 1.
        height: Height of an image in pixels, at least 32.
        width: Width of an image in pixels, at least 16.
        seed: Random seed of people and cameras, at least 0.
        cameras: The cameras, by `camid`.

    Raises:
        ValueError: If an argument is smaller than allowed.
    """

    num_identities: int = 96
    num_cameras: int = 6
    shots: int = 4
    height: int = 128
    width: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"num_identities": 1, "num_cameras": 2, "shots": 1, "height": 32, "width": 16, "seed": 0}
        for name, limit in least.items():
            if getattr(self, name) < limit:
                raise ValueError(f"{name} must be at least {limit}, got {getattr(self, name)}")
        self.cameras = [Camera(self.seed, camid, self.height, self.width) for camid in range(self.num_cameras)]
        self._people: dict[int, Person] = {}

    def keys(self, pids: Iterable[int] | None = None) -> Iterator[Key]:
        """Yield the keys of all images of the given identities (default: all), identity by identity."""
        pids = range(self.num_identities) if pids is None else pids
        return starmap(Key, product(pids, range(self.num_cameras), range(self.shots)))

    def draw(self, pid: int, camid: int, shot: int) -> Image:
        """Render one image, (height, width, 3) uint8 RGB.

        Raises:
            ValueError: If there is no such identity, camera or shot.
        """
        self.check(pid, camid, shot)
        camera = self.cameras[camid]
        rng = generator(self.seed, 2, pid, camid, shot)
        canvas = camera.background(rng)
        draw_clutter(canvas, rng)
        position = draw_position(rng, *canvas.shape[:2])
        draw_person(canvas, self.person(pid), draw_pose(rng, camera.heading), position)
        draw_occluder(canvas, rng, camera.heading)
        look = Look(float(rng.uniform(0.75, 1.0)), float(rng.uniform(0.85, 1.15)), float(rng.uniform(0.7, 1.3)))
        return camera.expose(canvas, look, rng)

    def check(self, pid: int, camid: int, shot: int) -> None:
        """Raise a ValueError if there is no such identity, camera or shot."""
        limits = {"pid": (pid, self.num_identities), "camid": (camid, self.num_cameras), "shot": (shot, self.shots)}
        for name, (value, count) in limits.items():
            if not 0 <= value < count:
                raise ValueError(f"{name} must be between 0 and {count - 1}, got {value}")

    def person(self, pid: int) -> Person:
        """Return the appearance of identity `pid`."""
        if pid not in self._people:
            self._people[pid] = draw_identity(self.seed, pid)
        return self._people[pid]

    @staticmethod
    def file_name(pid: int, camid: int, shot: int) -> str:
        """Return the file name of an image, such as `0007_c2_00.jpg`, in which cameras are numbered from 1."""
        return f"{pid:04d}_c{camid + 1}_{shot:02d}.jpg"

    def path(self, folder: Path, pid: int, camid: int, shot: int) -> str:
        """Return the path of an image file below `folder`."""
        return str(folder / self.file_name(pid, camid, shot))

    def write(self, folder: Path, keys: Iterable[tuple[int, int, int]]) -> list[Path]:
        """Write images as JPEG files, except those that already exist.

        Files are written atomically, so a killed run can resume. If another process is writing to the folder, wait for
        that process.

        Args:
            folder: Destination folder; created if missing.
            keys: Keys of the images to write, as (pid, camid, shot), for example from `keys`.

        Returns:
            The files in the order of `keys`, whether written now or before.

        Raises:
            ValueError: If a key is out of range, or `folder` contains images of another seed or size.
        """
        with locked(folder):
            claim(folder, {"version": VERSION, "seed": self.seed, "height": self.height, "width": self.width})
            return [
                write_missing([folder / self.file_name(*key)], lambda *key: [self.draw(*key)], key)[0] for key in keys
            ]
