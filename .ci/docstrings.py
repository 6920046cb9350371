"""A griffe extension that adapts docstrings to what griffe can parse."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
UNPACKED = re.compile(r"^ +(?:loading|\*\*options):.*\n(?: {8,}\S.*\n)*", re.MULTILINE)
EMPTY = re.compile(r"^Args:\n\n", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Edits docstrings before they are parsed.

    `Example:` becomes `Examples:`, the only spelling that griffe parses as a section of code. Entries for `**options:
    Unpack[...]` are removed, because griffe's `unpack_typeddict` lists the keys one by one.
    """

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Edit the docstring of an object."""
        if obj.docstring:
            obj.docstring.value = EMPTY.sub("", UNPACKED.sub("", EXAMPLE.sub("Examples:", obj.docstring.value)))
