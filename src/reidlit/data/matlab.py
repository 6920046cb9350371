"""MATLAB files as far as datasets use them.

SciPy's reader does not check what a file says of itself before it believes it: a changed byte can end the process. This one
takes every size and type as a claim, and knows only data: numbers, strings, cell arrays and single structs.

Source: MathWorks, "MAT-File Format", of files up to version 7.
"""

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HEADER = 128  # bytes
ORDERS = {b"IM": ("<", "le"), b"MI": (">", "be")}  # at the end of the header
LARGEST = 2**28  # bytes that a compressed variable may have
DEEPEST = 16  # cells within cells

# Types of stored elements.
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16-{}", 16: "utf-8", 17: "utf-16-{}", 18: "utf-32-{}"}
MATRIX, COMPRESSED = 14, 15
# Classes of arrays.
CELL, STRUCT, TEXT, NUMERIC = 1, 2, 4, range(6, 16)
COMPLEX = 0x0800


def read_mat(file: Path, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Read variables of a MATLAB file; no code in it runs.

    Args:
        file: the file.
        names: those that must be there; `None` for whatever is there.

    Returns:
        The variables by name: an array of numbers in its shape, a string, a cell array as a list in MATLAB's order, a struct as
        a dict, and None for anything else, such as a sparse matrix or an object.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or lacks a variable.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist.")
    try:
        content = _variables(file.read_bytes(), names)
    except (ValueError, struct.error, zlib.error) as reason:
        raise ValueError(f"{file} is no readable MATLAB file ({reason}). Get it again from its authors.") from reason
    if missing := [name for name in names or () if name not in content]:
        raise ValueError(f"{file} lacks the variables {missing}. Get it again from its authors.")
    return content


def strings(cells: Any) -> list[str]:
    """The strings of a cell array.

    Raises:
        ValueError: if it is none, or a cell holds anything else.
    """
    if not isinstance(cells, list):
        raise ValueError("what should be a cell array of strings is none")
    if any(not isinstance(cell, str) for cell in cells):
        other = next(cell for cell in cells if not isinstance(cell, str))
        raise ValueError(f"a cell array of strings holds {str(other)[:50]!r}")
    return cells


class _Format(NamedTuple):
    """How a file's numbers lie in memory."""

    order: str
    ending: str
    tag: struct.Struct


def _variables(data: bytes, names: Sequence[str] | None) -> dict[str, Any]:
    if data[:8] == b"\x89HDF\r\n\x1a\n" or data[512:520] == b"\x89HDF\r\n\x1a\n" or data[124:126] in (b"\0\2", b"\2\0"):
        raise ValueError("it is of version 7.3, which is HDF5; save it with -v7")
    if data[126:HEADER] not in ORDERS:
        raise ValueError("it does not begin as such files do")
    order, ending = ORDERS[data[126:HEADER]]
    form = _Format(order, ending, struct.Struct(f"{order}II"))
    found = {}
    for kind, content in _elements(form, memoryview(data)[HEADER:]):
        if kind == COMPRESSED:
            kind, content = next(_elements(form, memoryview(_inflated(content))), (0, content))
        if kind == MATRIX:
            name, value = _matrix(form, content, names, 0)
            if names is None or name in names:
                found[name] = value
    return found


def _inflated(content: memoryview) -> bytes:
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(content, LARGEST)
    if not unpacking.eof:
        raise ValueError("a compressed variable is cut, or too large")
    return data


def _elements(form: _Format, data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The type and the bytes of each element; what is within eight bytes has a tag of four."""
    at = 0
    while at < len(data):
        kind, size = form.tag.unpack_from(data, at)
        if kind >> 16:
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start = at + 8
            end = start + size + (0 if kind == COMPRESSED else -size % 8)
        if start + size > min(end, len(data)):
            raise ValueError("it is cut")
        yield kind, data[start : start + size]
        at = end


def _matrix(form: _Format, data: memoryview, wanted: Sequence[str] | None, depth: int) -> tuple[str, Any]:
    """The name and the value of an array; without the value where the name is not wanted."""
    if not len(data):  # of a cell or a field that is empty
        return "", np.empty((0, 0))
    if depth > DEEPEST:
        raise ValueError("its cells are nested too deep")
    parts = _elements(form, data)
    flags = _integers(form, *_next(parts))[0]
    shape = _integers(form, *_next(parts))
    name = bytes(_next(parts)[1]).decode("latin-1")
    if wanted is not None and name not in wanted:
        return name, None
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError(f"an array has the shape {shape}")
    return name, _value(form, flags, shape, parts, depth)


def _value(form: _Format, flags: int, shape: list[int], parts: Iterator[tuple[int, memoryview]], depth: int) -> Any:
    kind = flags & 0xFF
    if kind in NUMERIC and not flags & COMPLEX:
        numbers = _numbers(form, *_next(parts))
        if len(numbers) != math.prod(shape):
            raise ValueError(f"an array of shape {shape} has {len(numbers)} numbers")
        return numbers.reshape(shape, order="F")
    if kind == TEXT and shape[0] <= 1:
        return _text(form, *_next(parts))
    if kind == CELL:
        cells = [_matrix(form, content, None, depth + 1)[1] for _, content in parts]
        if len(cells) != math.prod(shape):
            raise ValueError(f"a cell array of shape {shape} has {len(cells)} cells")
        return cells
    if kind == STRUCT and math.prod(shape) == 1:
        width = _integers(form, *_next(parts))[0]
        titles = bytes(_next(parts)[1])
        starts = range(0, len(titles), width) if width > 0 else ()
        fields = [titles[at : at + width].split(b"\0")[0].decode("latin-1") for at in starts]
        values = [_matrix(form, content, None, depth + 1)[1] for _, content in parts]
        return dict(zip(fields, values, strict=True))
    return None


def _next(parts: Iterator[tuple[int, memoryview]]) -> tuple[int, memoryview]:
    found = next(parts, None)
    if found is None:
        raise ValueError("an array lacks a part")
    return found


def _integers(form: _Format, kind: int, content: memoryview) -> list[int]:
    """Flags, a shape, or a width, which are never empty."""
    found = _numbers(form, kind, content)
    if not len(found) or found.dtype.kind not in "iu":
        raise ValueError("an array lacks a part")
    return [int(number) for number in found]


def _numbers(form: _Format, kind: int, content: memoryview) -> np.ndarray[Any, Any]:
    if kind not in NUMBERS:
        raise ValueError(f"numbers are of the unknown type {kind}")
    return np.frombuffer(content, f"{form.order}{NUMBERS[kind]}")


def _text(form: _Format, kind: int, content: memoryview) -> str:
    if kind not in TEXTS:
        raise ValueError(f"text is of the unknown type {kind}")
    return bytes(content).decode(TEXTS[kind].format(form.ending))
