"""Each test that docs/faults.md names is there, and each fault has one."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def names_in(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_named_tests_exist():
    named = NAMED.findall(PAGE)
    assert named
    for file, test in named:
        assert test in names_in(ROOT / file), f"{file}::{test}"


def test_each_fault_names_its_test_and_each_fault_test_is_named():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| fault |")]
    assert all(NAMED.search(row.rsplit("|", 2)[1]) for row in rows)
    named = {test for _, test in NAMED.findall(PAGE)}
    for file in Path(__file__).parent.glob("test_*.py"):
        assert file == Path(__file__) or names_in(file) <= named, file.name
