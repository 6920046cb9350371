"""The README's Python runs as it stands, and its commands exist."""

import re
from pathlib import Path

from reidlit.cli import COMMANDS
from reidlit.config import options

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_commands_and_options_exist():
    used = set(re.findall(r"^reidlit (\w+)", README, re.MULTILINE)) | set(re.findall(r"`reidlit (\w+) ", README))
    assert used <= set(COMMANDS)
    for group, row in re.findall(r"^\| `(\w+)=` \| (.*) \|$", README, re.MULTILINE):
        named = set(re.findall(r"`(\w+)`", row))
        missing = set(options(group)) - named - {"library"}
        assert not missing, f"{group}: {missing} is not in the README"
