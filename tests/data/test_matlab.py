"""MATLAB files: values written by SciPy are read, and corrupted files raise an error instead of crashing."""

import io
import zlib
from struct import pack

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csr_matrix

from reidlit.data.matlab import read_mat, strings

CELLS = np.empty((2, 2), object)
CELLS[:] = [["a", "bcd é 中"], ["", "x" * 9]]
CONTENT = {
    "numbers": np.arange(6.0).reshape(2, 3),
    "bytes": np.array([[1, 0, 1]], np.uint8),
    "truth": np.array([[True], [False]]),
    "whole": np.arange(24, dtype=np.int32).reshape(2, 3, 4),
    "cells": CELLS,
    "struct": {"a": 1.5, "long_name": CELLS, "inner": {"b": np.eye(2, dtype=np.int16)}},
    "text": "some words",
}


@pytest.mark.parametrize("compressed", [False, True])
def test_values_of_all_types_are_read(compressed, tmp_path):
    file = tmp_path / "a.mat"
    unsupported = {"sparse": csr_matrix(np.eye(3)), "complex": np.ones((1, 2)) * 1j}
    savemat(file, CONTENT | unsupported, do_compression=compressed)
    content = read_mat(file)
    for name in ("numbers", "bytes", "truth", "whole"):
        assert content[name] == CONTENT[name].tolist()
    assert content["cells"] == ["a", "", "bcd é 中", "x" * 9]
    assert strings(content["cells"]) == content["cells"]
    assert content["struct"]["a"] == [[1.5]]
    assert content["struct"]["long_name"] == content["cells"]
    assert content["struct"]["inner"]["b"] == [[1, 0], [0, 1]]
    assert content["text"] == "some words"
    assert content["sparse"] is None
    assert content["complex"] is None


def test_only_named_variables_are_read_and_changes_are_noticed(tmp_path):
    file = tmp_path / "a.mat"
    savemat(file, CONTENT)
    assert set(read_mat(file, ["text", "bytes"])) == {"text", "bytes"}
    with pytest.raises(ValueError, match=r"a\.mat .*\['more'\]"):
        read_mat(file, ["text", "more"])
    savemat(file, {"text": "other words"})
    assert read_mat(file, ["text"])["text"] == "other words"


@pytest.mark.parametrize("cells", [None, "text", ["a", 1]])
def test_cells_that_are_not_strings_raise(cells):
    with pytest.raises(ValueError, match="cell array"):
        strings(cells)


def flipped(position, mask):
    """Return the bytes of a file in which one byte is changed."""
    stream = io.BytesIO()
    savemat(stream, {"numbers": CONTENT["numbers"]})
    content = bytearray(stream.getvalue())
    content[position] ^= mask
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        flipped(184, 0x40),  # unknown number type: SciPy 1.17 crashes
        flipped(185, 0x01),  # also crashes SciPy 1.17
        flipped(188, 0x40),  # more numbers than the shape has
        flipped(0, 0)[:150],
        b"path,hat\n" * 40,
        b"\x89HDF\r\n\x1a\n" + bytes(500),
        b"",
    ],
)
def test_invalid_file_raises(content, tmp_path):
    file = tmp_path / "a.mat"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.mat"):
        read_mat(file)


def test_file_with_huge_variable_raises(tmp_path):
    name, shape = pack("<IHH", 1 << 16 | 1, 97, 0), pack("<IIii", 5, 8, 2**20, 2**30)
    matrix = pack("<IIII", 6, 8, 6, 0) + shape + name + pack("<II", 9, 2**32 - 64)
    data = zlib.compress(pack("<II", 14, 2**32 - 8) + matrix + bytes(2**24))
    (tmp_path / "a.mat").write_bytes(bytes(124) + b"\0\1IM" + pack("<II", 15, len(data)) + data)
    with pytest.raises(ValueError, match=r"a\.mat"):
        read_mat(tmp_path / "a.mat")


def test_missing_file_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.mat"):
        read_mat(tmp_path / "a.mat")
