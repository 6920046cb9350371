"""Which members of a family of tests belong to the fast suite."""

import pytest


def mostly_slow(values, fast):
    """Parameters of which all but the `fast` ones carry the marker `slow`.

    Args:
        values: Parameters of a test, or tuples that begin with a name.
        fast: Names of those that `make test` runs.
    """
    names = [value if isinstance(value, str) else value[0] for value in values]
    assert set(fast) <= set(names), f"{set(fast) - set(names)} are no parameters"
    return [
        pytest.param(*([value] if isinstance(value, str) else value), marks=() if name in fast else pytest.mark.slow)
        for name, value in zip(names, values, strict=True)
    ]
