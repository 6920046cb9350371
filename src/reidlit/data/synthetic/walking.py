"""Walks of synthetic pedestrians through the scene of a camera."""

import math
from dataclasses import dataclass

from reidlit.data.synthetic.drawing import Image
from reidlit.data.synthetic.figures import Pose, Position, draw_person
from reidlit.data.synthetic.people import Gait, Person

LEG = 0.47  # from the hip to the ankle, as a fraction of the body height


@dataclass(frozen=True, slots=True)
class Walk:
    """Walk of a person through a scene; frames are numbered from 0."""

    person: Person
    gait: Gait
    phase: float  # phase of the walking cycle in frame 0
    yaw: float  # yaw in frame 0; see `Pose`
    turn: float  # change of the yaw from frame to frame
    x: float  # position in frame 0, in pixels of the scene
    y: float  # position of the ground, in pixels of the scene
    unit: float  # body height in pixels

    @property
    def speed(self) -> float:
        """Speed in pixels per frame along the path, such that a foot on the ground does not slide."""
        return 2 * LEG * math.sin(self.gait.stride) * self.unit * self.gait.pace / math.pi

    def drift(self, frame: float) -> float:
        """Return the pixels per frame by which the person moves to the right of the image."""
        return self.speed * math.sin(self.yaw + self.turn * frame)

    def pose(self, frame: float) -> Pose:
        """Return the person's pose in a frame."""
        phase = (self.phase + self.gait.pace * frame) % (2 * math.pi)
        return Pose(self.yaw + self.turn * frame, phase, self.gait.stride, self.gait.elbow)

    def position(self, frame: float) -> Position:
        """Return the person's position in the scene; the body sinks when the legs are apart."""
        apart = self.gait.stride * math.sin(self.pose(frame).phase)
        sunk = LEG * (1 - math.cos(apart)) * self.unit
        way = self.speed * frame * math.sin(self.yaw + self.turn * frame / 2)
        return Position(self.x + way, self.y + sunk, self.unit)

    def draw(self, canvas: Image, left: int, top: int, frame: int) -> None:
        """Draw the person on a part of the scene with the corner (`left`, `top`)."""
        position = self.position(frame)
        draw_person(canvas, self.person, self.pose(frame), Position(position.x - left, position.y - top, position.unit))
