"""Walks of synthetic pedestrians through the scene of a camera."""

import math
from dataclasses import dataclass

from reidlit.data.synthetic.drawing import Image
from reidlit.data.synthetic.figures import Place, Pose, draw_person
from reidlit.data.synthetic.people import Gait, Person

LEG = 0.47  # from the hip to the ankle, as a fraction of the body height


@dataclass(frozen=True, slots=True)
class Walk:
    """A person who walks through a scene; frames count from 0."""

    person: Person
    gait: Gait
    phase: float  # of the walking cycle in frame 0
    yaw: float  # in frame 0; see `Pose`
    turn: float  # change of the yaw from frame to frame
    x: float  # in pixels of the scene, in frame 0
    y: float  # of the ground, in pixels of the scene
    unit: float  # body height in pixels

    @property
    def speed(self) -> float:
        """Pixels per frame along the person's own way: a foot on the ground does not slide."""
        return 2 * LEG * math.sin(self.gait.stride) * self.unit * self.gait.pace / math.pi

    def drift(self, frame: float) -> float:
        """Return the pixels per frame by which the person moves to the right of the image."""
        return self.speed * math.sin(self.yaw + self.turn * frame)

    def pose(self, frame: float) -> Pose:
        """Return the person's pose in a frame."""
        phase = (self.phase + self.gait.pace * frame) % (2 * math.pi)
        return Pose(self.yaw + self.turn * frame, phase, self.gait.stride, self.gait.elbow)

    def place(self, frame: float) -> Place:
        """Return the person's place in the scene; the body sinks when the legs are apart, so that it does not hover."""
        apart = self.gait.stride * math.sin(self.pose(frame).phase)
        sunk = LEG * (1 - math.cos(apart)) * self.unit
        way = self.speed * frame * math.sin(self.yaw + self.turn * frame / 2)
        return Place(self.x + way, self.y + sunk, self.unit)

    def draw(self, canvas: Image, left: int, top: int, frame: int) -> None:
        """Draw the person on a part of the scene with the corner (`left`, `top`)."""
        place = self.place(frame)
        draw_person(canvas, self.person, self.pose(frame), Place(place.x - left, place.y - top, place.unit))
