"""Walks: feet that do not slide, bodies that do not hover."""

import math

import pytest

from helpers.walks import walk
from reidlit.data.synthetic.walking import LEG


def test_a_foot_on_the_ground_stays_where_it_is():
    person = walk()
    half_cycle = math.pi / person.gait.pace  # frames of one step
    step = person.place(half_cycle).x - person.place(0).x
    assert step == pytest.approx(2 * LEG * math.sin(person.gait.stride) * person.unit)
    assert person.pose(half_cycle).phase == pytest.approx(0.3 + math.pi)
    assert walk(yaw=-math.pi / 2).place(3).x < 50
    assert walk(yaw=0.0).place(3).x == pytest.approx(50)


def test_the_body_sinks_where_the_legs_are_apart():
    together, apart = walk(phase=0.0), walk(phase=math.pi / 2)
    assert together.place(0).y == 240
    assert apart.place(0).y == pytest.approx(240 + LEG * 200 * (1 - math.cos(apart.gait.stride)))
