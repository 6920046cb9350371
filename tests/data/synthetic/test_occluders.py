"""Occluders: people and objects that meet a walking person."""

import numpy as np
import pytest

from helpers.walks import walk
from reidlit.data.synthetic.drawing import generator
from reidlit.data.synthetic.occluders import draw_passer_by, draw_thing


def test_passer_by_meets_person_in_one_frame():
    for number in range(20):
        person = walk(yaw=(-1) ** number * 1.2)
        passer = draw_passer_by(generator(number), person, meeting=4.5, nearer=1.1)
        apart = [passer.position(frame).x - person.position(frame).x for frame in (-2, 4.5, 11)]
        assert apart[1] == pytest.approx(0)
        assert abs(apart[0]) > person.unit / 2
        assert abs(apart[2]) > person.unit / 2
        assert apart[0] * apart[2] < 0


def test_object_hides_person_where_they_meet():
    for number in range(12):
        person = walk(yaw=1.2)
        thing = draw_thing(generator(number), person, meeting=5)
        x, y = round(person.position(5).x) - 50, 40
        before, after = np.zeros((200, 100, 3), np.uint8), np.zeros((200, 100, 3), np.uint8)
        person.draw(before, x, y, 5)
        thing(after, x, y, 5)
        assert (after.any(2) & before.any(2)).sum() > 0.1 * before.any(2).sum()
        elsewhere = np.zeros_like(after)
        thing(elsewhere, x + 300, y, 9)
        assert not elsewhere.any()
