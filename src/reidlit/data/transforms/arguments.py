"""Argument checks of the transforms. Each function returns the checked value."""

from collections.abc import Sequence


def demand(condition: bool, message: str) -> None:
    """Raise a ValueError with `message` unless the condition holds."""
    if not condition:
        raise ValueError(message)


def at_least(name: str, value: int, minimum: int) -> int:
    """Check that a value is an integer of at least `minimum`."""
    demand(
        value >= minimum and value == int(value),
        f"{name}={value} is invalid: must be an integer of at least {minimum}.",
    )
    return int(value)


def probability(name: str, value: float) -> float:
    """Check that a value is between 0 and 1."""
    demand(0 <= value <= 1, f"{name}={value} is invalid: must be from 0 to 1.")
    return float(value)


def interval(name: str, values: Sequence[float], maximum: float) -> tuple[float, float]:
    """Check that values are two positive numbers in ascending order, at most `maximum`."""
    low, high = values if len(values) == 2 else (0.0, 0.0)
    demand(
        0 < low <= high <= maximum,
        f"{name}={values} is invalid: must be [low, high] with 0 < low <= high <= {maximum}.",
    )
    return float(low), float(high)


def colour(fill: Sequence[int] | str) -> tuple[int, ...]:
    """Check that `fill` is an RGB color."""
    rgb = tuple(value for value in fill if isinstance(value, int) and 0 <= value <= 255)
    demand(
        len(rgb) == len(fill) == 3,
        f"fill={fill!r} is invalid: must be three integers from 0 to 255 (RandomErasing also accepts 'random').",
    )
    return rgb
