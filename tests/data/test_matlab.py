"""MATLAB files: what scipy writes comes back, and no altered file does any harm."""

import zlib
from struct import pack

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from scipy.sparse import csr_matrix

from reidlit.data import matlab
from reidlit.data.matlab import DEEPEST, read_mat

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
    "nothing": np.empty((0, 3)),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_what_scipy_writes_comes_back(compressed, tmp_path):
    file = tmp_path / "a.mat"
    savemat(
        file, CONTENT | {"sparse": csr_matrix(np.eye(3)), "complex": np.ones((1, 2)) * 1j}, do_compression=compressed
    )
    found, theirs = read_mat(file), loadmat(file)
    for name in ("numbers", "bytes", "truth", "whole", "nothing"):
        assert (found[name] == theirs[name]).all()
        assert found[name].shape == theirs[name].shape
        assert not found[name].flags.writeable  # of the file's own bytes: nothing was made up
    assert found["cells"] == ["a", "", "bcd é 中", "x" * 9]
    assert found["struct"]["a"] == [[1.5]]
    assert found["struct"]["long_name"] == found["cells"]
    assert (found["struct"]["inner"]["b"] == np.eye(2)).all()
    assert found["text"] == "some words"
    assert found["sparse"] is None
    assert found["complex"] is None
    assert set(read_mat(file, ["text", "bytes"])) == {"text", "bytes"}
    with pytest.raises(ValueError, match=r"lacks the variables \['more'\]"):
        read_mat(file, ["text", "more"])


def test_numbers_of_the_other_byte_order(tmp_path):
    def element(kind, content):
        return pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    name = element(1, b"a")
    body = element(6, pack(">II", 6, 0)) + element(5, pack(">ii", 1, 2)) + name + element(9, pack(">dd", 1.5, -2))
    text = (
        element(6, pack(">II", 4, 0))
        + element(5, pack(">ii", 1, 2))
        + element(1, b"b")
        + element(17, "é中".encode("utf-16-be"))
    )
    (tmp_path / "a.mat").write_bytes(bytes(124) + b"\1\0MI" + element(14, body) + element(14, text))
    found = read_mat(tmp_path / "a.mat")
    assert found["a"].tolist() == [[1.5, -2]]
    assert found["b"] == "é中"


def test_altered_and_cut_files_are_refused_or_read_and_never_crash(tmp_path):
    file = tmp_path / "a.mat"
    generator = np.random.default_rng(0)
    savemat(file, CONTENT)
    whole = file.read_bytes()
    altered = [whole[:length] for length in range(0, len(whole), 41)]
    for place in range(124, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= int(generator.integers(1, 256))
        altered.append(bytes(changed))
    refused = 0
    for content in altered:
        file.write_bytes(content)
        try:
            read_mat(file)
        except ValueError as error:
            refused += str(file) in str(error)
    assert refused > len(altered) / 4


def test_files_that_would_fill_the_memory_or_the_stack_are_refused(tmp_path, monkeypatch):
    file = tmp_path / "a.mat"
    monkeypatch.setattr(matlab, "LARGEST", 2**16)
    bomb = zlib.compress(bytes(2**16 + 8), 9)
    deep = pack("<II", 14, 0)
    for _ in range(DEEPEST + 3):
        inner = pack("<IIII", 6, 8, 1, 0) + pack("<IIii", 5, 8, 1, 1) + pack("<II", 1, 0) + deep
        deep = pack("<II", 14, len(inner)) + inner
    wide = pack("<IIII", 6, 8, 2, 0) + pack("<IIii", 5, 8, 2**31 - 1, 2**31 - 1) + pack("<II", 1, 0)
    for content, words in (
        (pack("<II", 15, len(bomb)) + bomb, "cut, or too large"),
        (deep, "too deep"),
        (pack("<II", 15, 10) + b"0123456789", "incorrect header"),
    ):
        file.write_bytes(bytes(124) + b"\0\1IM" + content)
        with pytest.raises(ValueError, match=words):
            read_mat(file)
    file.write_bytes(bytes(124) + b"\0\1IM" + pack("<II", 14, len(wide)) + wide)
    assert read_mat(file) == {"": None}  # many structs without fields


def test_later_versions_and_other_files_are_refused_with_the_way_out(tmp_path):
    file = tmp_path / "a.mat"
    with pytest.raises(FileNotFoundError, match=r"a\.mat does not exist"):
        read_mat(file)
    for content, words in (
        (b"\x89HDF\r\n\x1a\n" + bytes(500), "save it with -v7"),
        (b"path,hat\n" * 40, "does not begin as"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_mat(file)
