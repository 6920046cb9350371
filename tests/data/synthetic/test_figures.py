"""Figures: recognizable clothes, and what each side of a person shows."""

import math

import numpy as np

from helpers.pictures import grid
from reidlit.data.synthetic.figures import Place, Pose, draw_person
from reidlit.data.synthetic.people import Person, draw_identity


def alone(person: Person, yaw: float = 0.0, phase: float = 0.5) -> np.ndarray:
    """A person on plain grey, without camera and occluder."""
    canvas = np.full((256, 128, 3), 128, dtype=np.uint8)
    draw_person(canvas, person, Pose(yaw, phase, stride=0.3, elbow=0.3), Place(64, 246, 236))
    return canvas


def test_a_person_is_recognised_by_its_clothes_where_nothing_disturbs() -> None:
    people = [draw_identity(0, pid) for pid in range(32)]
    seen = grid(np.stack([alone(person, yaw=0.0, phase=0.4) for person in people]))
    again = grid(np.stack([alone(person, yaw=0.4, phase=3.0) for person in people]))
    nearest = np.linalg.norm(again[:, None] - seen[None], axis=2).argmin(axis=1)
    assert (nearest == np.arange(32)).mean() > 0.85


def test_the_back_hides_the_face() -> None:
    for pid in range(40):
        person = draw_identity(0, pid)
        if person.hair_style == "bald" or np.abs(np.subtract(person.skin, person.hair)).max() < 40:
            continue
        face, back = (int((alone(person, yaw)[:60] == person.skin).all(axis=2).sum()) for yaw in (0.0, math.pi))
        assert face > 100
        assert back < face / 4


def test_a_side_view_is_narrower() -> None:
    person = draw_identity(0, 0)
    front, side = ((alone(person, yaw)[60:110] != 128).any(axis=2).sum() for yaw in (0.0, math.pi / 2))
    assert side < front
