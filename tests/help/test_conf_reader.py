"""The reader of comments in conf/: headers, options, included files and defaults lists."""

from pathlib import Path

import pytest

from reidlit.config import CONFIG_DIR
from reidlit.help.conf_reader import (
    GROUPS,
    Option,
    find_choices,
    find_groups,
    read_choice,
    read_command,
    read_summary,
)

BASE = """\
# A base

size: 1  # Size in pixels
names: [a, b]  # Names
"""
CHOICE = """\
# @package other
# A choice (Author, 2020)
#
# reidlit train group=choice
#
# First note,
# continued.
#
# Second note.
defaults:
  - base
  - /loading@_here_: default
  - part: small
  - override /model@_global_.model: osnet_x1_0
  - override hydra/job_logging: stdout
  - _self_
_target_: package.Class
size: 2
pattern: 'a # b'  # Text with a number sign
# Comment above
above: 3
section:  # A section
  _target_: package.Nested
  inner: {x: 1, y: 2}  # One option
no_comment: null
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, text in (("base", BASE), ("choice", CHOICE)):
        (tmp_path / "group").mkdir(exist_ok=True)
        (tmp_path / "group" / f"{name}.yaml").write_text(text)
    return tmp_path


def test_read_choice(folder):
    choice = read_choice("group", "choice", [folder, CONFIG_DIR])
    assert choice.summary == "A choice (Author, 2020)"
    assert choice.notes == ("First note, continued.", "Second note.")
    assert choice.examples == ("reidlit train group=choice",)
    assert choice.targets == ("package.Class", "package.Nested")
    assert choice.includes == (("group", "base"), ("loading", "default"))
    assert choice.parts == {"group/part": "small"}
    assert choice.selects == {"model": "osnet_x1_0"}
    assert choice.body.startswith("defaults:")
    options = {option.name: option for option in choice.options}
    assert [name.removeprefix("other.") for name in choice.own] == [
        *("size", "pattern", "above", "section", "section.inner", "no_comment"),
    ]
    assert options["other.size"] == Option("other.size", "2", "Size in pixels")
    assert options["other.pattern"] == Option("other.pattern", "'a # b'", "Text with a number sign")
    assert options["other.above"] == Option("other.above", "3", "Comment above")
    assert options["other.section"] == Option("other.section", "", "A section")
    assert options["other.section.inner"] == Option("other.section.inner", "{x: 1, y: 2}", "One option")
    assert options["other.no_comment"].meaning == ""


def test_overriding_option_keeps_the_meaning_of_the_included_one():
    (height,) = [option for option in read_choice("data", "synthetic").options if option.name == "data.height"]
    assert height.default == "128"
    (flat,) = [option for option in read_choice("scheduler", "flat_cosine").options if option.name == "scheduler.flat"]
    assert flat.default == "0.5"
    assert flat.meaning


def test_recipe_lists_flow_mappings_as_dotted_options():
    recipe = read_choice("experiment", "bot_r50")
    assert recipe.is_recipe
    assert Option("model.backbone.last_stride", "1", "") in recipe.options
    assert recipe.selects["loss"] == "bag_of_tricks"


def test_read_command():
    command = read_command("search", ["top_k=3", "model=resnet50", "+new=1"])
    options = {option.name: option.default for option in command.options}
    assert options["top_k"] == "3"
    assert options["query"] == "null"
    assert {group.name: group.default for group in command.groups} == {"model": "resnet50", "extractor": "default"}
    assert all(example.startswith("reidlit search ") for example in command.examples)
    assert not [option for option in command.options if option.name.startswith("hydra")]


def test_null_group_is_listed():
    groups = {group.name: group.default for group in read_command("train").groups}
    assert groups["experiment"] == groups["averaging"] == "null"


def test_custom_folder_adds_groups_and_choices(folder):
    folders = [CONFIG_DIR, folder]
    assert "group" in find_groups(folders)
    assert find_choices("group", folders) == ["base", "choice"]
    assert read_summary("group", "base", folders) == "A base"


def test_missing_choice():
    with pytest.raises(FileNotFoundError, match="osnet_x9"):
        read_choice("model", "osnet_x9")


def test_every_group_has_a_meaning():
    assert set(GROUPS) == set(find_groups())
