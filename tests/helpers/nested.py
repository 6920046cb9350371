"""Nested figures as one mapping, which pytest can compare."""


def flat(value, name=""):
    """All numbers below a value, by the path to them; None as -1, texts left out."""
    if isinstance(value, dict):
        return {path: number for key, each in value.items() for path, number in flat(each, f"{name}/{key}").items()}
    if isinstance(value, list):
        return flat(dict(enumerate(value)), name)
    return {} if isinstance(value, str) else {name: -1 if value is None else value}
