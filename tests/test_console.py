"""Terminal output: names are shown as they are, and never interpreted."""

import ast
from pathlib import Path

import pytest
from rich.table import Table

from reidlit.console import complain, say, show

SOURCE = Path(__file__).parents[1] / "src" / "reidlit"
NAMES = ["[/b].jpg", "[red]a[/red]", ":smile:", "[link=file:///etc]x", "\\[a]", "人物 é"]


@pytest.mark.parametrize("name", NAMES)
def test_markup_is_shown_as_text(name, capsys):
    table = Table("column", title=name)
    table.add_row(name)
    show(table)
    show(name)
    say(name)
    complain(name)
    printed = capsys.readouterr()
    assert printed.out.count(name) == 4
    assert printed.err == f"{name}\n"


def test_control_characters_reach_neither_terminal_stream(capsys):
    name = "a\x1b]0;title\x07\x1b[2J\x9b.jpg"
    table = Table(name, title=name)
    table.add_row(name)
    show(table)
    say(name)
    complain(name)
    printed = capsys.readouterr()
    assert not set("\x1b\x07\x9b") & set(printed.out + printed.err)
    assert "\\x1b[2J" in printed.out
    assert "\\x1b[2J" in printed.err


def test_only_this_module_opens_a_console():
    for path in SOURCE.rglob("*.py"):
        imported = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        names = [alias.name for node in imported if (node.module or "").startswith("rich") for alias in node.names]
        assert path.name == "console.py" or "Console" not in names, path
