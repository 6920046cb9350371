"""Import rules of the package: floors of the rooms, and modules that may import Hydra and Lightning.

The architecture page of the documentation describes the same rules.
"""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "reidlit"
# Imports must point to a lower floor or stay within the room.
FLOORS = {
    "config": 0,
    "files": 0,
    "escaping": 0,
    "foreign_files": 0,
    "labels": 0,
    "locks": 0,
    "overrides": 0,
    "spec": 0,
    "console": 1,
    "data": 1,
    "help": 1,
    "losses": 1,
    "metrics": 1,
    "models": 1,
    "tables": 1,
    "yaml_files": 1,
    "compat": 2,
    "export": 2,
    "visualize": 2,
    "inference": 3,
    "runs": 3,
    "engine": 4,
    "serve": 5,
    "commands": 6,
    "cli": 7,
}
HYDRA = ("cli.py", "commands/", "engine/")
LIGHTNING = ("commands/", "data/datamodule.py", "engine/", "runs/")
# File names that exist in two rooms, because one file mirrors the other.
MIRRORED = {"distillation.py", "doctor.py"}
FORBIDDEN = {"utils", "common", "helpers"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "reidlit":
            yield from (f"reidlit.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


FILES = sorted(SOURCE.rglob("*.py"))


def room_of(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path):
    name, room = path.relative_to(SOURCE).as_posix(), room_of(path)
    for module in imports(path):
        top, *rest = module.split(".")
        if top == "reidlit" and rest and rest[0] in FLOORS and room in FLOORS:
            assert rest[0] == room or FLOORS[rest[0]] < FLOORS[room], f"{name} imports {module}"
        assert top != "hydra" or name.startswith(HYDRA), f"{name} imports Hydra"
        assert top != "pytorch_lightning" or name.startswith(LIGHTNING), f"{name} imports Lightning"
        assert top != "lightning", f"{name} imports lightning instead of pytorch_lightning"


def test_every_room_has_a_floor():
    rooms = {room_of(path) for path in FILES}
    assert {room for room in rooms if not room.startswith("_")} <= set(FLOORS)


def test_files_are_small():
    too_long = {str(p.relative_to(SOURCE)): n for p in FILES if (n := len(p.read_text().splitlines())) > 400}
    assert too_long == {}


def test_file_names_are_unique():
    rooms = defaultdict(set)
    for path in FILES:
        if path.name != "__init__.py":
            rooms[path.name].add(path.parent)
    assert {name for name, folders in rooms.items() if len(folders) > 1} == MIRRORED


def test_no_module_has_a_catch_all_name():
    assert not [path for path in FILES if FORBIDDEN & set(path.relative_to(SOURCE).with_suffix("").parts)]


@pytest.mark.parametrize(
    ("statement", "packages"),
    [
        ("import reidlit.cli", ("torch", "numba", "pytorch_lightning", "numpy")),
        (
            "import reidlit; reidlit.evaluate, reidlit.rerank",
            ("pytorch_lightning", "torchmetrics", "torchvision", "timm"),
        ),
    ],
)
def test_import_does_not_load_heavy_packages(statement, packages):
    code = f"import sys; {statement}; print([name for name in {packages} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_public_names_resolve():
    import reidlit

    for name in reidlit.__all__:
        assert getattr(reidlit, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = reidlit.nothing


def test_architecture_page_describes_the_package():
    page = (SOURCE.parents[1] / "docs" / "project" / "architecture.md").read_text()
    described = {
        name: int(floor) for name, floor in re.findall(r"^  (\w+)(?:/|\.py) .*floor (\d)$", page, re.MULTILINE)
    }
    present = {room_of(path) for path in FILES}
    assert described == {room: floor for room, floor in FLOORS.items() if room in present}
    for name in re.findall(r"`(\w+(?:/\w+)+\.py)`", page):
        assert (SOURCE / name).is_file() or (SOURCE.parents[1] / name).is_file(), f"{name} does not exist"
