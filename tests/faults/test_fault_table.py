"""Every test that docs/faults.md names exists, and every fault has a test."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def function_names(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_named_tests_exist():
    references = TEST_NAME.findall(PAGE)
    assert references
    for file, test in references:
        assert test in function_names(ROOT / file), f"{file}::{test}"


def test_every_fault_has_a_test_and_every_fault_test_is_listed():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| fault |")]
    assert all(TEST_NAME.search(row.rsplit("|", 2)[1]) for row in rows)
    listed = {test for _, test in TEST_NAME.findall(PAGE)}
    for file in Path(__file__).parent.glob("test_*.py"):
        assert file == Path(__file__) or function_names(file) <= listed, file.name
