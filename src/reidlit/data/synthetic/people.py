"""Identities of synthetic pedestrians: body, clothes, belongings and gait."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reidlit.data.synthetic.drawing import Colour, generator, pick

WARDROBE: tuple[Colour, ...] = (
    *((30, 30, 34), (78, 78, 82), (145, 145, 148), (228, 226, 222)),  # black to white
    *((198, 178, 142), (108, 74, 50), (178, 40, 46), (210, 150, 46)),  # beige, brown, red, yellow
    *((58, 112, 66), (34, 44, 92), (66, 112, 184), (156, 88, 142)),  # green, navy, blue, violet
)
TROUSERS = tuple(WARDROBE[index] for index in (0, 0, 1, 2, 4, 5, 8, 9, 9, 10))  # mostly dark or blue
SHOES = tuple(WARDROBE[index] for index in (0, 0, 3, 5, 6))
SKINS: tuple[Colour, ...] = ((238, 200, 176), (222, 178, 148), (190, 140, 104), (142, 98, 70), (92, 62, 46))
HAIRS: tuple[Colour, ...] = ((24, 20, 20), (24, 20, 20), (66, 44, 30), (112, 78, 46), (196, 162, 98), (158, 158, 160))

Upper = Literal["tshirt", "longsleeve", "jacket", "open_jacket", "dress"]
HEMS: dict[Upper, float] = {"tshirt": 0.03, "longsleeve": 0.03, "jacket": 0.06, "open_jacket": 0.06, "dress": 0.2}


@dataclass(frozen=True, slots=True)
class Person:
    """Constant appearance of an identity. Lengths are fractions of the body height."""

    build: float  # width of the body, 1 is average
    hip: float  # height of the hip joints, about 0.5
    head: float  # half the height of the head, about 0.07
    skin: Colour
    hair: Colour
    hair_style: Literal["short", "bald", "long", "bun", "afro"]
    upper: Upper
    upper_colour: Colour
    second_colour: Colour
    pattern: Literal["plain", "stripes", "pinstripes", "blocks", "sleeves", "logo"]
    hem: float  # how far the upper clothing reaches below the hip
    lower: Literal["trousers", "shorts", "skirt"]
    lower_colour: Colour
    shoes: Colour
    bag: Literal["none", "backpack", "shoulder", "hand"]
    bag_colour: Colour
    hat: Literal["none", "cap", "beanie"]
    hat_colour: Colour


@dataclass(frozen=True, slots=True)
class Gait:
    """Constant gait of an identity. Angles are in radians."""

    pace: float  # advance of the walking cycle from one frame to the next
    stride: float  # largest angle between a leg and the vertical
    elbow: float  # how far the forearms are bent forward


def shade(rng: np.random.Generator, colour: Colour) -> Colour:
    """Return a slightly different color, because clothes of two people are rarely exactly the same color."""
    red, green, blue = np.clip(np.array(colour) + rng.integers(-10, 11, size=3), 0, 255).tolist()
    return red, green, blue


def draw_identity(seed: int, pid: int) -> Person:
    """Return the appearance of identity `pid`, which depends only on `seed` and `pid`."""
    rng = generator(seed, 0, pid)
    upper: Upper = pick(rng, ("tshirt", "tshirt", "longsleeve", "longsleeve", "jacket", "open_jacket", "dress"))
    colour = pick(rng, WARDROBE)
    second = pick(rng, tuple(other for other in WARDROBE if other != colour))
    long_jacket = upper == "jacket" and rng.random() < 0.4
    return Person(
        build=float(rng.uniform(0.85, 1.3)),
        hip=float(rng.uniform(0.47, 0.53)),
        head=float(rng.uniform(0.066, 0.078)),
        skin=shade(rng, pick(rng, SKINS)),
        hair=shade(rng, pick(rng, HAIRS)),
        hair_style=pick(rng, ("short", "short", "bald", "long", "long", "bun", "afro")),
        upper=upper,
        upper_colour=shade(rng, colour),
        second_colour=shade(rng, second),
        pattern=pick(rng, ("plain", "plain", "stripes", "pinstripes", "blocks", "sleeves", "logo")),
        hem=HEMS[upper] + 0.14 * long_jacket + float(rng.uniform(0.0, 0.03)),
        lower=pick(rng, ("trousers", "trousers", "trousers", "shorts", "skirt")),
        lower_colour=shade(rng, pick(rng, TROUSERS)),
        shoes=shade(rng, pick(rng, SHOES)),
        bag=pick(rng, ("none", "none", "backpack", "shoulder", "hand")),
        bag_colour=shade(rng, pick(rng, WARDROBE)),
        hat=pick(rng, ("none", "none", "none", "none", "cap", "beanie")),
        hat_colour=shade(rng, pick(rng, WARDROBE)),
    )


def draw_gait(seed: int, pid: int) -> Gait:
    """Return the gait of identity `pid`, which depends only on `seed` and `pid`."""
    rng = generator(seed, 3, pid)
    return Gait(2 * math.pi / float(rng.uniform(4.5, 8)), float(rng.uniform(0.22, 0.5)), float(rng.uniform(0.1, 0.8)))
