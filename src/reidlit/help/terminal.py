"""Help pages for the terminal, at most 80 columns wide and without color."""

import textwrap
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from reidlit.config import CONFIG_DIR
from reidlit.help.conf_reader import (
    GROUPS,
    Choice,
    Command,
    Option,
    find_choices,
    find_groups,
    read_choice,
    read_command,
    read_summary,
)

WIDTH = 80
NAME_WIDTH = 28  # longest name next to its description; the description of a longer name starts on the next line


def format_overview(version: str, commands: Iterable[str]) -> str:
    """Return the page of `reidlit --help`."""
    train = read_command("train")
    lines = [
        f"reidlit {version}: train, evaluate, search and export re-ID models",
        "",
        "Usage: reidlit <command> [option=value ...]",
        "",
        "Examples:",
        *_format_examples(train.examples[:2]),
        "",
        "Commands:",
        *_table((name, read_summary("", name)) for name in commands),
        "",
        "Help:",
        *_table(
            [
                ("reidlit <command> --help", "Options and groups of a command"),
                ("reidlit train --help model", "Choices of a configuration group"),
                ('eval "$(reidlit train -sc install=bash)"', "Shell completion (bash, zsh, fish)"),
            ],
            limit=WIDTH // 2,
        ),
    ]
    return "\n".join(lines)


def format_help(
    name: str,
    topics: Sequence[str] = (),
    overrides: Sequence[str] = (),
    positional: str | None = None,
    config_dirs: Sequence[str] = (),
) -> str:
    """Return the help page of a command, or of groups, choices and options of it.

    Args:
        name: Command name.
        topics: What to explain: a group (`model`), a choice (`model=osnet_x1_0`, or `model` and `osnet_x1_0`) or an
            option (`seed`, `optimizer.lr`); empty for the command itself.
        overrides: Arguments such as `model=resnet50` that replace the defaults on the page.
        positional: Option that the positional arguments set, if the command has any.
        config_dirs: Further configuration folders.

    Raises:
        ValueError: If a topic does not exist.
    """
    folders = [CONFIG_DIR, *map(Path, config_dirs)]
    command = read_command(name, overrides, folders)
    if not topics:
        return _format_command(command, positional, folders)
    if len(topics) == 2 and not any("=" in topic for topic in topics):
        topics = ["=".join(topics)]
    return "\n\n".join(_format_topic(command, topic, folders) for topic in topics)


def _format_command(command: Command, positional: str | None, folders: Sequence[Path]) -> str:
    arguments = f" <{positional} ...>" if positional else ""
    lines = [f"{command.summary}", "", f"Usage: reidlit {command.name}{arguments} [option=value ...]", "", "Examples:"]
    lines += _format_examples(command.examples)
    for note in command.notes:
        lines += ["", *_wrap(note)]
    lines += ["", "Options:", *_table(_describe(option) for option in command.options)]
    if command.groups:
        lines += ["", f"Configuration groups (see `reidlit {command.name} --help <group>`):"]
        names = [_describe(group)[0] for group in command.groups]
        counts = [_count(group.name, folders) for group in command.groups]
        width = max(map(len, names))
        rows = [f"{name:<{width}}  {count:>10}" for name, count in zip(names, counts, strict=True)]
        lines += _table(zip(rows, (group.meaning for group in command.groups), strict=True), limit=WIDTH // 2)
    more = [("--help <group>", "Choices of a group"), ("--help <group>=<choice>", "Options of a choice")]
    more += [("--cfg job", "Resolved configuration"), ("--help-all", "Hydra's page: all choices and the configuration")]
    lines += ["", "More:", *_table([*more[0 if command.groups else 2 :], ("--hydra-help", "Hydra's flags")])]
    return "\n".join(lines)


def _format_topic(command: Command, topic: str, folders: Sequence[Path]) -> str:
    """Return the page of a group, a choice or an option."""
    group, _, choice = topic.partition("=")
    defaults = {each.name: each.default for each in command.groups}
    nested = [each for each in find_groups(folders) if "/" in each and each.split("/")[0] in (*defaults, "hydra")]
    groups = [*defaults, *nested]
    if group in groups:
        choices = find_choices(group, folders)
        if choice and choice not in choices:
            see = f"See reidlit {command.name} --help {group}."
            raise ValueError(f"{topic} does not exist.{_suggest(choice, choices)} {see}")
        if choice or len(choices) == 1:
            return _format_choice(read_choice(group, choice or choices[0], folders))
        subgroups = [each for each in nested if each.startswith(f"{group}/")]
        return _format_group(command.name, group, defaults.get(group), choices, subgroups, folders)
    options = list(command.options)
    if (top := group.split(".")[0]) in defaults and defaults[top] in find_choices(top, folders):
        options += read_choice(top, defaults[top], folders).options
    matches = [option for option in options if option.name == group or option.name.startswith(f"{group}.")]
    if not matches:
        names = [*groups, *(option.name for option in options)]
        see = f"See reidlit {command.name} --help."
        raise ValueError(f"{group} is not an option or group of this command.{_suggest(group, names)} {see}")
    return "\n".join(_table(_describe(option) for option in matches))


def _format_group(
    command: str,
    group: str,
    default: str | None,
    choices: Sequence[str],
    subgroups: Sequence[str],
    folders: Sequence[Path],
) -> str:
    title = GROUPS.get(group, group)
    lines = [*_wrap(f"{title}{f' (default: {default})' if default else ''}"), "", "Choices:"]
    lines += _table((name, read_summary(group, name, folders)) for name in choices)
    if subgroups:
        lines += ["", "Nested groups:", *_table((name, GROUPS.get(name, "")) for name in subgroups)]
    lines += ["", "More:", f"  reidlit {command} --help {group}={choices[0]}"]
    return "\n".join(lines)


def _format_choice(choice: Choice) -> str:
    lines = [f"{choice.group}={choice.name}", "", *_wrap(choice.summary)]
    for note in choice.notes:
        lines += ["", *_wrap(note)]
    if choice.examples:
        lines += ["", "Examples:", *_format_examples(choice.examples)]
    if choice.selects:
        lines += ["", "Also selects:", *(f"  {group}={name}" for group, name in choice.selects.items())]
    if choice.parts:
        lines += ["", "Nested groups:"]
        lines += _table((f"{group}={name}", GROUPS.get(group, "")) for group, name in choice.parts.items())
    if choice.options:
        title = "Sets:" if choice.is_recipe else "Options:"
        lines += ["", title, *_table(_describe(option) for option in choice.options)]
    return "\n".join(lines)


def _describe(option: Option) -> tuple[str, str]:
    """Return an option or a group as it is written on the command line, and its meaning."""
    value = option.default.replace(", ", ",").replace(": ", ":")
    name = f"{option.name}={value}" if value not in ("", "???") else option.name
    return name if len(name) <= WIDTH - 2 else f"{name[: WIDTH - 5]}...", option.meaning


def _count(group: str, folders: Sequence[Path]) -> str:
    """Return the number of choices of a group, or of the options of its only choice."""
    choices = find_choices(group, folders)
    if len(choices) == 1:
        return f"{len(read_choice(group, choices[0], folders).options)} options"
    return f"{len(choices)} choices"


def _suggest(name: str, names: Sequence[str]) -> str:
    similar = get_close_matches(name, names, n=4, cutoff=0.5)
    return f" Similar: {', '.join(similar)}." if similar else ""


def _table(rows: Iterable[tuple[str, str]], limit: int = NAME_WIDTH) -> list[str]:
    """Format names and descriptions in two columns; the description of a name above `limit` starts on the next line."""
    rows = list(rows)
    column = 4 + max((len(name) for name, _ in rows if len(name) <= limit), default=0)
    lines = []
    for name, text in rows:
        wrapped = textwrap.wrap(text, WIDTH - column, break_long_words=False, break_on_hyphens=False)
        lines.append(f"  {name}")
        if wrapped and len(name) <= column - 4:
            lines[-1] = lines[-1].ljust(column) + wrapped.pop(0)
        lines += [" " * column + line for line in wrapped]
    return lines


def _format_examples(examples: Iterable[str]) -> list[str]:
    """Indent examples; break long ones as a shell does."""
    parts = [textwrap.wrap(text, WIDTH - 8, break_long_words=False, break_on_hyphens=False) for text in examples]
    return "\n".join("  " + " \\\n      ".join(part) for part in parts).splitlines()


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
