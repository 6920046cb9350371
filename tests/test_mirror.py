"""Structure of the tests: it mirrors the package, and tests do not import each other."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "reidlit"
NO_ROOM = {"faults", "helpers", "files_of_0_1"}  # fault tests cover several rooms; the other folders contain no tests
FILES = sorted(path for path in TESTS.rglob("*.py") if path.parent.relative_to(TESTS).as_posix() not in NO_ROOM)
ROOMS = [path for path in FILES if path.parent != TESTS and path.name.startswith("test_")]


def name_of(path):
    return path.relative_to(TESTS).as_posix()


def subjects(room):
    """Names that tests of a room may use: its modules, its subfolders and the room itself."""
    members = {path.stem.removeprefix("_") for path in (SOURCE / room).glob("*") if path.suffix in ("", ".py")}
    return members | {room.name}


@pytest.mark.parametrize("path", ROOMS, ids=name_of)
def test_tests_mirror_the_package(path):
    """Tests of a room are named `test_<module>.py` or `test_<module>_<aspect>.py`."""
    room, subject = path.parent.relative_to(TESTS), path.stem.removeprefix("test_")
    assert (SOURCE / room).is_dir(), f"reidlit/{room} does not exist"
    assert any(f"{subject}_".startswith(f"{name}_") for name in subjects(room)), (
        f"reidlit/{room} has no module for {path.name}"
    )


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=name_of)
def test_no_test_imports_another(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        others = [name for name in names if not name.startswith(("helpers.", "reidlit."))]
        assert not [name for name in others if "test_" in name or name.startswith("tests")], path
