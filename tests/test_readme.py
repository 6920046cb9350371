"""Tests that the README's commands exist and that the guides list the choices of each config group."""

import re
from pathlib import Path

from reidlit.cli import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MARKER = re.compile(r"<!-- choices(?:-table)?: ([\w/]+)(?: \S+)? -->")


def test_commands_exist():
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
    used = set(re.findall(r"^reidlit (\w+)", blocks, re.MULTILINE)) | set(re.findall(r"`reidlit (\w+)", README))
    assert used
    assert used <= set(COMMANDS)


def test_guides_list_the_choices_of_each_group_of_train():
    pages = [page.read_text() for page in (ROOT / "docs").rglob("*.md")]
    listed = {group for page in pages for group in MARKER.findall(page)}
    assert all((ROOT / "conf" / group).is_dir() for group in listed)
    groups = set(re.findall(r"^  - (\w+): ", (ROOT / "conf" / "train.yaml").read_text(), re.MULTILINE))
    assert groups - {"eval", "callbacks"} <= listed
