"""Flattening of nested metrics into one mapping, which pytest can compare."""


def flat(value, name=""):
    """Return all numbers in a nested value by path; None becomes -1, and strings are skipped."""
    if isinstance(value, dict):
        return {path: number for key, item in value.items() for path, number in flat(item, f"{name}/{key}").items()}
    if isinstance(value, list):
        return flat(dict(enumerate(value)), name)
    return {} if isinstance(value, str) else {name: -1 if value is None else value}
