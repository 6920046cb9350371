"""How drawn people walk: each identity has a gait of its own, which a walk carries through the scene of a camera."""

import math
from dataclasses import dataclass

from reidlit.data.synthetic.cameras import generator
from reidlit.data.synthetic.drawing import Image, Person, Place, Pose, draw_person

LEG = 0.47  # from the hip to the ankle, as a fraction of the body height


@dataclass(frozen=True, slots=True)
class Gait:
    """What stays the same about how an identity walks. Angles are in radians."""

    pace: float  # by how much the walking cycle advances from one frame to the next
    stride: float  # largest angle between a leg and the vertical
    elbow: float  # how far the forearms are bent forward


def draw_gait(seed: int, pid: int) -> Gait:
    """Returns how identity `pid` walks, which depends on `seed` and `pid` only: a few frames for two steps."""
    rng = generator(seed, 3, pid)
    return Gait(2 * math.pi / float(rng.uniform(4.5, 8)), float(rng.uniform(0.22, 0.5)), float(rng.uniform(0.1, 0.8)))


@dataclass(frozen=True, slots=True)
class Walk:
    """A person who walks through a scene: where it is and how it stands in each frame, counted from 0."""

    person: Person
    gait: Gait
    phase: float  # of the walking cycle in frame 0
    yaw: float  # in frame 0; see `Pose`
    turn: float  # what the yaw changes by from frame to frame
    x: float  # in pixels of the scene, in frame 0
    y: float  # of the ground, in pixels of the scene
    unit: float  # body height in pixels

    @property
    def speed(self) -> float:
        """Pixels a frame along the person's own way: a foot on the ground stays where it is."""
        return 2 * LEG * math.sin(self.gait.stride) * self.unit * self.gait.pace / math.pi

    def drift(self, frame: float) -> float:
        """Returns by how many pixels a frame the person moves to the right of the image."""
        return self.speed * math.sin(self.yaw + self.turn * frame)

    def pose(self, frame: float) -> Pose:
        """Returns how the person stands in a frame."""
        phase = (self.phase + self.gait.pace * frame) % (2 * math.pi)
        return Pose(self.yaw + self.turn * frame, phase, self.gait.stride, self.gait.elbow)

    def place(self, frame: float) -> Place:
        """Returns where the person is in the scene; its body sinks where its legs are apart, so that it does not hover."""
        apart = self.gait.stride * math.sin(self.pose(frame).phase)
        sunk = LEG * (1 - math.cos(apart)) * self.unit
        way = self.speed * frame * math.sin(self.yaw + self.turn * frame / 2)
        return Place(self.x + way, self.y + sunk, self.unit)

    def draw(self, canvas: Image, left: int, top: int, frame: int) -> None:
        """Draws the person on a part of the scene whose corner is at (`left`, `top`)."""
        place = self.place(frame)
        draw_person(canvas, self.person, self.pose(frame), Place(place.x - left, place.y - top, place.unit))
