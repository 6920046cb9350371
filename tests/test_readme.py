"""The README's commands exist, and the documentation names every option."""

import re
from pathlib import Path

from reidlit.cli import COMMANDS
from reidlit.config import options

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OPTIONS = (ROOT / "docs" / "train.md").read_text()


def test_commands_and_options_exist():
    used = set(re.findall(r"^reidlit (\w+)", README, re.MULTILINE)) | set(re.findall(r"`reidlit (\w+) ", README))
    assert used <= set(COMMANDS)
    rows = re.findall(r"^\| `(\w+)=` \| (.*) \|$", OPTIONS, re.MULTILINE)
    assert {"model", "data", "loss", "engine", "experiment"} <= {group for group, _ in rows}
    for group, row in rows:
        named = set(re.findall(r"`(\w+)`", row))
        missing = set(options(group)) - named - {"library"}
        assert not missing, f"{group}: {missing} is not in docs/train.md"
