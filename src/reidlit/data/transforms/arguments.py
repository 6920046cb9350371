"""Checks of the arguments of transforms; each returns the checked value."""

from collections.abc import Sequence


def demand(condition: bool, message: str) -> None:
    """Raise a ValueError with `message` unless the condition holds."""
    if not condition:
        raise ValueError(message)


def at_least(name: str, value: int, least: int) -> int:
    """Check that a value is a whole number from `least` up."""
    demand(value >= least and value == int(value), f"{name} is {value}; it must be a whole number from {least} up.")
    return int(value)


def probability(name: str, value: float) -> float:
    """Check that a value lies between 0 and 1."""
    demand(0 <= value <= 1, f"{name} is {value}; it must lie between 0 and 1.")
    return float(value)


def interval(name: str, values: Sequence[float], most: float) -> tuple[float, float]:
    """Check that values are two positive numbers in ascending order, at most `most`."""
    low, high = values if len(values) == 2 else (0.0, 0.0)
    demand(0 < low <= high <= most, f"{name} is {values}; it must be [low, high] with 0 < low <= high <= {most}.")
    return float(low), float(high)


def colour(fill: Sequence[int] | str) -> tuple[int, ...]:
    """Check that `fill` is an RGB colour."""
    rgb = tuple(value for value in fill if isinstance(value, int) and 0 <= value <= 255)
    demand(
        len(rgb) == len(fill) == 3,
        f"fill is {fill!r}; it must be three whole numbers from 0 to 255 (RandomErasing also takes 'random').",
    )
    return rgb
