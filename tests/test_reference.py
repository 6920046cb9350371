"""The generated reference pages and the markers that other pages contain."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from mkdocs.exceptions import PluginError

from reidlit.cli import COMMANDS
from reidlit.config import CONFIG_DIR
from reidlit.help.conf_reader import find_choices, find_groups, read_choice, read_command, read_summary

HOOK = Path(__file__).parents[1] / "docs" / "reference" / "generate.py"


@pytest.fixture(scope="module")
def hook():
    spec = importlib.util.spec_from_file_location("generate_reference", HOOK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(hook):
    return hook.generate_pages()


def cells(page):
    """The rows of all tables of a page, as lists of cells without HTML and backticks."""
    rows = [line[2:-2].split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return [[re.sub(r"<[^>]+>|`|\[|\]\([^)]*\)", "", cell) for cell in row] for row in rows]


def test_every_command_has_a_page_with_every_option(pages):
    index = {row[0] for row in cells(pages["reference/cli/index.md"])}
    for name in COMMANDS:
        page = pages[f"reference/cli/{name}.md"]
        assert name in index
        command = read_command(name)
        assert all(example in page for example in command.examples)
        rows = {row[0]: row for row in cells(page)}
        for option in (*command.options, *command.groups):
            assert rows[option.name][2], f"{name}: {option.name}"


def test_every_group_has_a_page_with_every_choice(pages, hook):
    index = {row[0] for row in cells(pages["reference/config/index.md"])}
    for group in find_groups():
        page = pages[hook.group_page(group)]
        assert group in index
        rows = {row[0]: row for row in cells(page)}
        for name in find_choices(group):
            assert rows[name][1]
            assert f"## {name} {{ #{name} }}" in page
            choice = read_choice(group, name)
            if not choice.is_recipe:
                assert all(rows[option][2] for option in choice.own), f"{group}={name}"


def test_links_exist(pages):
    for path, page in pages.items():
        for link in re.findall(r"\]\(([^)#:]+\.md)(#\w+)?\)", page):
            target = (Path("/") / path).parent / link[0]
            name = Path("/", *target.resolve().parts[1:]).as_posix()[1:]
            assert name in pages, f"{path} links to {link[0]}"
            assert not link[1] or f"{{ {link[1]} }}" in pages[name], f"{path} links to {''.join(link)}"


def test_navigation_contains_the_pages(hook):
    nav = [{"Reference": [{"Command line": "reference/cli/index.md"}, {"Groups": "reference/config/index.md"}]}, "a.md"]
    config = hook.on_config(SimpleNamespace(nav=nav))
    commands, groups = (next(iter(entry.values())) for entry in config.nav[0]["Reference"])
    assert commands == ["reference/cli/index.md", *({name: f"reference/cli/{name}.md"} for name in COMMANDS)]
    assert {"model/pool": "reference/config/model-pool.md"} in groups
    assert config.nav[1] == "a.md"


def test_choices_marker(hook):
    page = hook.replace_markers("Use <!-- choices: model osnet_x* -->.", "guides/train.md")
    assert "[`osnet_x1_0`](../reference/config/model.md#osnet_x1_0)" in page
    assert "resnet50" not in page
    page = hook.replace_markers("<!-- choices: sampler -->", "index.md")
    assert "[`identity`](reference/config/sampler.md#identity)" in page


def test_table_markers(hook):
    rows = cells(hook.replace_markers("<!-- choices-table: loss -->", "index.md"))
    assert [row[0] for row in rows[2:]] == find_choices("loss")
    rows = cells(hook.replace_markers("<!-- options: loss=triplet -->", "index.md"))
    assert ["loss.losses.triplet.margin", "0.3"] in [row[:2] for row in rows]
    rows = cells(hook.replace_markers("<!-- options: search -->", "index.md"))
    assert ["top_k", "10"] in [row[:2] for row in rows]
    rows = cells(hook.replace_markers("<!-- commands -->", "index.md"))
    assert [row[0] for row in rows[2:]] == list(COMMANDS)


def test_marker_in_backticks_stays(hook):
    text = "Write `<!-- choices: model -->` to list all models."
    assert hook.replace_markers(text, "index.md") == text


@pytest.mark.parametrize(
    "marker", ["choices: modle", "choices: model nothing_*", "options: loss=modle", "options: trian", "choices"]
)
def test_unknown_name_in_a_marker_is_an_error(hook, marker):
    with pytest.raises(PluginError, match=re.escape(marker)):
        hook.replace_markers(f"<!-- {marker} -->", "index.md")


def test_every_command_module_has_a_name_and_a_configuration():
    modules = {path.stem for path in (CONFIG_DIR.parent / "src" / "reidlit" / "commands").glob("[!_]*.py")}
    assert modules == set(COMMANDS) == {path.stem for path in CONFIG_DIR.glob("*.yaml")}
    assert all(read_summary("", name) for name in COMMANDS)
