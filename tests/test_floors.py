"""Imports go down only (DESIGN: the tree)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "reidlit"
FLOORS = {
    "losses": set(),
    "metrics": set(),
    "models": {"config", "spec"},
    "data": set(),
    "visualize": {"models", "metrics", "data"},
    "inference": {"models", "metrics", "data", "spec", "config"},
    "engine": {"models", "losses", "metrics", "data", "visualize", "spec", "config"},
    "tasks": {"engine", "models", "losses", "metrics", "data", "visualize", "inference", "spec", "config"},
}
HYDRA = ("cli.py", "tasks/", "engine/")
LIGHTNING = ("engine/", "tasks/", "data/datamodule.py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down(path):
    name = path.relative_to(SOURCE).as_posix()
    floor = name.split("/")[0]
    for module in imports(path):
        top, *rest = module.split(".")
        if top == "reidlit" and rest and floor in FLOORS:
            assert rest[0] in FLOORS[floor] | {floor}, f"{name} imports {module}"
        assert top != "hydra" or name.startswith(HYDRA), f"{name} imports Hydra"
        assert top != "pytorch_lightning" or name.startswith(LIGHTNING), f"{name} imports Lightning"
        assert top != "lightning", f"{name} imports the other Lightning"


def test_files_are_small():
    long = {str(p.relative_to(SOURCE)): n for p in FILES if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}


@pytest.mark.parametrize(
    ("imported", "spared"),
    [
        ("import reidlit.cli", ("torch", "numba", "pytorch_lightning", "numpy")),
        (
            "import reidlit; reidlit.evaluate, reidlit.rerank",
            ("pytorch_lightning", "torchmetrics", "torchvision", "timm"),
        ),
    ],
)
def test_importing_is_cheap(imported, spared):
    code = f"import sys; {imported}; print([name for name in {spared} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_public_names_resolve():
    import reidlit

    for name in reidlit.__all__:
        assert getattr(reidlit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = reidlit.nothing
