"""Walk for the tests of moving synthetic pedestrians."""

import math

from reidlit.data.synthetic.people import draw_gait, draw_identity
from reidlit.data.synthetic.walking import Walk


def walk(**changes: float) -> Walk:
    """Return a walk of one person, with changes of its fields."""
    options = {"phase": 0.3, "yaw": math.pi / 2, "turn": 0.0, "x": 50.0, "y": 240.0, "unit": 200.0} | changes
    return Walk(draw_identity(0, 1), draw_gait(0, 1), **options)
