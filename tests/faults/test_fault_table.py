"""Each test that docs/faults.md names is there, and each fault has one."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def names_in(file):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_named_tests_exist():
    named = NAMED.findall(PAGE)
    assert len(named) > 50
    for file, test in named:
        assert test in names_in(file), f"{file}::{test}"


def test_each_fault_names_its_test_and_each_fault_test_is_named():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| fault |")]
    assert all(NAMED.search(row.rsplit("|", 2)[1]) for row in rows)
    named = {test for _, test in NAMED.findall(PAGE)}
    ours = set().union(*(names_in(file.relative_to(ROOT)) for file in Path(__file__).parent.glob("test_*.py")))
    helpers = {
        *("test_every_option_that_a_checkpoint_can_hold_is_harmless", "test_every_dataset_that_reads_names_is_fuzzed"),
        *("test_the_settings_of_the_tests_get_as_far_as_the_trainer",),
        *(name for name in ours if name.startswith(("test_named_tests", "test_each_fault"))),
    }
    assert ours - named == helpers
