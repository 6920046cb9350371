"""Walks of synthetic pedestrians."""

import math

import pytest

from helpers.walks import walk
from reidlit.data.synthetic.walking import LEG


def test_foot_on_the_ground_does_not_slide():
    person = walk()
    half_cycle = math.pi / person.gait.pace  # frames of one step
    step = person.position(half_cycle).x - person.position(0).x
    assert step == pytest.approx(2 * LEG * math.sin(person.gait.stride) * person.unit)
    assert person.pose(half_cycle).phase == pytest.approx(0.3 + math.pi)
    assert walk(yaw=-math.pi / 2).position(3).x < 50
    assert walk(yaw=0.0).position(3).x == pytest.approx(50)


def test_body_sinks_when_legs_are_apart():
    together, apart = walk(phase=0.0), walk(phase=math.pi / 2)
    assert together.position(0).y == 240
    assert apart.position(0).y == pytest.approx(240 + LEG * 200 * (1 - math.cos(apart.gait.stride)))
