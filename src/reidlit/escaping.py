"""Escaping of names and settings, which may contain anything, for terminals and for cells of CSV files."""

import re
from typing import Any

# First characters with which spreadsheets recognize a formula, also in their full-width form.
FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def for_terminal(text: str) -> str:
    r"""Replace characters that a terminal interprets or cannot show by their escape sequences; keep line breaks.

    Example:
        >>> for_terminal("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def for_cell(value: Any) -> Any:
    """Prefix a text with an apostrophe if a spreadsheet would run it as a formula; return other values unchanged.

    Example:
        >>> for_cell("=1+1"), for_cell("-1e-3"), for_cell(-1)
        ("'=1+1", '-1e-3', -1)
    """
    return f"'{value}" if isinstance(value, str) and _is_formula(value) else value


def from_cell(text: str) -> str:
    """Return the text from which `for_cell` made a cell.

    Example:
        >>> from_cell("'=1+1"), from_cell("'a'")
        ('=1+1', "'a'")
    """
    return text[1:] if text.startswith("'") and _is_formula(text) else text


def _is_formula(text: str) -> bool:
    """Return True for the start of a formula, also behind apostrophes, so that escaping can be undone."""
    return bool(FORMULA.match(text)) and not NUMBER.fullmatch(text.lstrip("'"))
