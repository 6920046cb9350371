"""Reading of files that may be damaged: one message with the name of the file, within bounded memory."""

import os
from pathlib import Path

import numpy as np
import pytest

from helpers import tampered
from reidlit.foreign_files import check_nesting, check_zip, expanded, read_arrays, read_json, reading


@pytest.mark.parametrize("error", [KeyError("a"), TypeError("b"), RecursionError("c"), MemoryError(), AssertionError()])
def test_any_error_names_the_file(error):
    with (
        pytest.raises(ValueError, match=rf"^a\.json .*{type(error).__name__}.*Repeat it\.$") as raised,
        reading("a.json", "Repeat it."),
    ):
        raise error
    assert raised.value.__cause__ is error


def test_errors_that_name_the_file_are_unchanged():
    error = FileNotFoundError("a.json does not exist.")
    with pytest.raises(FileNotFoundError) as raised, reading("a.json", "Repeat it."):
        raise error
    assert raised.value is error


def test_unknown_home_folder_leaves_the_path(monkeypatch):
    assert expanded("~nobody-has-this-name/x") == Path("~nobody-has-this-name/x")
    monkeypatch.setenv("HOME", "/somewhere/somebody")
    assert expanded("~/x") == Path("/somewhere/somebody/x")


@pytest.mark.parametrize("kind", tampered.JSON)
def test_damaged_json_is_refused_by_name(kind, tmp_path):
    file = tmp_path / "metrics.json"
    tampered.JSON[kind](file)
    with pytest.raises(ValueError, match=r"metrics\.json.*Repeat it"):
        read_json(file, "Repeat it.")


def test_pipes_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ValueError, match=r"pipe\.json"):
        read_json(tmp_path / "pipe.json", "Repeat it.")


def test_arrays_are_read_as_written(tmp_path):
    arrays = {
        "a": np.arange(6).reshape(2, 3),
        "b": np.array(["x", "ü"]),
        "c": np.float32(0.5),
        "empty": np.zeros((0, 4)),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        found = read_arrays(tmp_path / "a.npz")
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)


def test_headers_and_bombs_do_not_allocate_memory(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, embedding=np.zeros((2, 3), np.float32))
    tampered.ARRAYS["a header that claims 2^40 values"](file)
    with pytest.raises(ValueError, match=r"embedding\.npy"):
        read_arrays(file)
    tampered.ARRAYS["a bomb"](file)
    assert file.stat().st_size < 2**22
    for read in (read_arrays, check_zip):
        with pytest.raises(ValueError, match="GB"):
            read(file)


def test_nesting_is_bounded():
    check_nesting({"a": [1, 2, {"b": (3, "x")}] * 1000})
    for content in (tampered.shared(), tampered.cycle()):
        with pytest.raises(ValueError, match=r"values|nested"):
            check_nesting(content)
