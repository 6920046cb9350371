"""Help pages in the terminal: width, completeness and errors."""

import pytest

from reidlit.cli import COMMANDS
from reidlit.help.conf_reader import find_choices, find_groups, read_choice, read_command
from reidlit.help.terminal import WIDTH, format_help, format_overview

TOPICS = [group for group in find_groups() if group != "loading" and not group.startswith("extractor")]


def test_overview_fits_a_terminal_and_names_every_command():
    lines = format_overview("1.0", COMMANDS).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= WIDTH
    assert set(COMMANDS) <= {line.split()[0] for line in lines if line.startswith("  ")}
    assert lines.index("Examples:") < lines.index("Commands:")


@pytest.mark.parametrize("name", COMMANDS)
def test_command_page_names_every_option_and_group(name):
    page = format_help(name)
    assert max(map(len, page.splitlines())) <= WIDTH
    command = read_command(name)
    for option in (*command.options, *command.groups):
        assert f"\n  {option.name}" in page
        assert option.meaning.split()[0] in page
    assert page.startswith(command.summary)
    assert page.index("Examples:") < page.index("Options:")


@pytest.mark.parametrize("group", TOPICS)
def test_group_and_choice_pages(group):
    choices = find_choices(group)
    page = format_help("train", [group])
    assert max(map(len, page.splitlines())) <= WIDTH
    assert len(choices) == 1 or all(f"\n  {name}" in page for name in choices)
    for name in choices:
        page = format_help("train", [f"{group}={name}"])
        assert max(map(len, page.splitlines())) <= WIDTH
        assert page == format_help("train", [group, name])
        for option in read_choice(group, name).options:
            assert f"\n  {option.name}"[: WIDTH - 3] in page


def test_overrides_replace_defaults():
    page = format_help("train", overrides=["model=resnet50", "seed=7"])
    assert "model=resnet50" in page
    assert "seed=7" in page


def test_option_topic():
    assert "seed=1" in format_help("train", ["seed"])
    assert "optimizer.lr=1.5e-3" in format_help("train", ["optimizer.lr"])
    assert "optimizer.lr=0.05" in format_help("train", ["optimizer.lr"], ["optimizer=sgd"])
    assert "contact_sheet.images=10" in format_help("doctor", ["contact_sheet"])


def test_several_topics():
    page = format_help("train", ["sampler=identity", "loss=triplet"])
    assert "sampler.num_instances=4" in page
    assert "loss.losses.triplet.margin=0.3" in page


def test_custom_choice(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("# My model\nsize: 3  # Size\n")
    assert "mine" in format_help("train", ["model"], config_dirs=[str(tmp_path)])
    assert "model.size=3" in format_help("train", ["model=mine"], config_dirs=[str(tmp_path)])


@pytest.mark.parametrize(
    ("topic", "similar"),
    [("modle", "model"), ("model=osnet_x2_0", "osnet_x1_0"), ("sed", "seed"), ("optimizer.lrr", "optimizer.lr")],
)
def test_unknown_topic_suggests_similar_names(topic, similar):
    with pytest.raises(ValueError, match=f"{topic.partition('=')[0]}.* {similar}"):
        format_help("train", [topic])


def test_group_of_another_command_is_unknown():
    with pytest.raises(ValueError, match="scheduler"):
        format_help("verify", ["scheduler"])
