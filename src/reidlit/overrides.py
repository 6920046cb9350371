"""Formatting of values for Hydra's override grammar."""

import re
from typing import Any

PLAIN = re.compile(r"[A-Za-z_/.][\w./-]*", re.ASCII)  # text without quotes
NOT_TEXT = ("true", "false", "null", "none", "nan", "inf")


def format_override(value: Any) -> str:
    """Format a value so that Hydra parses it back to an equal value."""
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
        # Hydra treats backslashes as escapes only before a quote, so only these are doubled.
        escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
        return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"
    return str(value)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
