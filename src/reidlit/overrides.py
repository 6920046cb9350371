"""Formatting of values in the grammar of Hydra's command line."""

import re
from typing import Any

PLAIN = re.compile(r"[A-Za-z_/.][\w./-]*", re.ASCII)  # needs no quotes
NOT_TEXT = ("true", "false", "null", "none", "nan", "inf")


def format_override(value: Any) -> str:
    """Format a value so that Hydra parses it back to the same value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(format_override(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{format_override(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str) and not (
        PLAIN.fullmatch(value) and value.lower() not in NOT_TEXT and not _is_number(value)
    ):
        # Backslashes escape only before a quote, so they are doubled there.
        escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
        return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"
    return str(value)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
