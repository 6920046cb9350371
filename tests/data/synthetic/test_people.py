"""Identities of synthetic pedestrians."""

import numpy as np

from reidlit.data.synthetic.people import draw_identity


def test_many_identities_have_similar_clothes_colors() -> None:
    people = [draw_identity(0, pid) for pid in range(96)]
    worn = np.array([(*person.upper_colour, *person.lower_colour) for person in people])
    distance = np.abs(worn[:, None] - worn[None]).max(axis=2) + 255 * np.eye(96, dtype=int)
    assert (distance.min(axis=1) <= 20).mean() > 0.4
