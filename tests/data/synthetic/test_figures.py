"""Rendered people: clothes and views."""

import math

import numpy as np

from helpers.pictures import grid
from reidlit.data.synthetic.figures import Pose, Position, draw_person
from reidlit.data.synthetic.people import Person, draw_identity


def render(person: Person, yaw: float = 0.0, phase: float = 0.5) -> np.ndarray:
    """Render a person on plain gray, without camera and occluders."""
    canvas = np.full((256, 128, 3), 128, dtype=np.uint8)
    draw_person(canvas, person, Pose(yaw, phase, stride=0.3, elbow=0.3), Position(64, 246, 236))
    return canvas


def test_people_are_recognizable_by_clothes() -> None:
    people = [draw_identity(0, pid) for pid in range(32)]
    gallery = grid(np.stack([render(person, yaw=0.0, phase=0.4) for person in people]))
    query = grid(np.stack([render(person, yaw=0.4, phase=3.0) for person in people]))
    nearest = np.linalg.norm(query[:, None] - gallery[None], axis=2).argmin(axis=1)
    assert (nearest == np.arange(32)).mean() > 0.85


def test_face_is_not_visible_from_behind() -> None:
    for pid in range(40):
        person = draw_identity(0, pid)
        if person.hair_style == "bald" or np.abs(np.subtract(person.skin, person.hair)).max() < 40:
            continue
        face, back = (int((render(person, yaw)[:60] == person.skin).all(axis=2).sum()) for yaw in (0.0, math.pi))
        assert face > 100
        assert back < face / 4


def test_side_view_is_narrower() -> None:
    person = draw_identity(0, 0)
    front, side = ((render(person, yaw)[60:110] != 128).any(axis=2).sum() for yaw in (0.0, math.pi / 2))
    assert side < front
