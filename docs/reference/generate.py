"""MkDocs hook: reference pages of commands and configuration groups, and lists of names, generated from conf/.

Pages, added to the site and to the navigation below `reference/cli/index.md` and `reference/config/index.md`:

- `reference/cli/<command>.md`: description, examples, options and groups of a command
- `reference/config/<group>.md`: each choice of a group with its options; `/` in a group name becomes `-`

Markers, replaced in any page unless they are in backticks:

- `<!-- commands -->`: table of the commands
- `<!-- choices: model -->`, `<!-- choices: model osnet_* -->`: names of the choices, as links
- `<!-- choices-table: model -->`, also with a pattern: table of the choices with their descriptions
- `<!-- options: search -->`, `<!-- options: loss=triplet -->`: table of the options of a command or a choice
"""

import html
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from reidlit.cli import COMMANDS, POSITIONAL
from reidlit.help.conf_reader import (
    GROUPS,
    Choice,
    Option,
    find_choices,
    find_groups,
    read_choice,
    read_command,
    read_summary,
)

CLI = "reference/cli"
CONFIG = "reference/config"
MARKER = re.compile(r"(?<!`)<!-- (commands|choices|choices-table|options)(?:: (\S+)(?: (\S+))?)? -->(?!`)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the generated pages to the navigation, below their index pages."""
    sections = {
        f"{CLI}/index.md": [{name: f"{CLI}/{name}.md"} for name in COMMANDS],
        f"{CONFIG}/index.md": [{group: group_page(group)} for group in find_groups()],
    }

    def expand(node: Any) -> Any:
        if isinstance(node, list):
            return [expand(child) for child in node]
        if isinstance(node, dict):
            return {title: expand(child) for title, child in node.items()}
        return [node, *sections[node]] if node in sections else node

    config.nav = expand(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    for path, text in generate_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Replace the markers of a page."""
    return replace_markers(markdown, page.file.src_uri)


def generate_pages() -> dict[str, str]:
    """Return the Markdown of every generated page by its path below docs/."""
    pages = {f"{CLI}/index.md": _cli_index(), f"{CONFIG}/index.md": _config_index()}
    pages |= {f"{CLI}/{name}.md": _command_page(name) for name in COMMANDS}
    return pages | {group_page(group): _group_page(group) for group in find_groups()}


def group_page(group: str) -> str:
    """Return the path of a group's page below docs/."""
    return f"{CONFIG}/{group.replace('/', '-')}.md"


def replace_markers(markdown: str, path: str) -> str:
    """Replace the markers in the Markdown of a page.

    Args:
        markdown: Markdown of the page.
        path: Path of the page below docs/, for relative links.

    Raises:
        PluginError: If a marker names something that does not exist.
    """

    def replacement(match: re.Match[str]) -> str:
        kind, name, pattern = match.groups()
        link = _relative(path)
        if kind == "commands":
            return _command_table(link)
        group, _, choice = (name or "").partition("=")
        is_command = kind == "options" and group in COMMANDS and not choice
        if not is_command and (group not in find_groups() or (choice and choice not in find_choices(group))):
            raise PluginError(f"{path}: {match[0]} names a group, choice or command that does not exist.")
        if kind == "options":
            options = read_command(group).options if is_command else read_choice(group, choice).options
            return _option_table(options)
        names = [each for each in find_choices(group) if fnmatchcase(each, pattern or "*")]
        if not names:
            raise PluginError(f"{path}: {match[0]} matches no choice of {group}.")
        if kind == "choices":
            return ", ".join(f"[`{each}`]({link(group_page(group))}#{each})" for each in names)
        return _choice_table(group, names, link)

    return MARKER.sub(replacement, markdown)


def _cli_index() -> str:
    link = _relative(f"{CLI}/index.md")
    return f"""# Command line

`reidlit <command> [option=value ...]` runs a command. Options and configuration groups are set in the same way, with
[Hydra](https://hydra.cc). `reidlit <command> --help` shows these pages in the terminal.

{_command_table(link)}

Every command accepts these flags:

| flag | meaning |
|---|---|
| `--help` | Examples, options and configuration groups of the command |
| `--help <group>` | Choices of a configuration group |
| `--help <group>=<choice>` | Options of a choice |
| `--help-all` | Hydra's help page: all choices and the configuration |
| `--cfg job` | Resolved configuration, without running the command |
| `--config-dir <folder>` | Folder with custom choices, for example `<folder>/model/mine.yaml` |
| `-m` | Sweep: run a job for every combination of comma-separated values |
| `--hydra-help` | Hydra's flags |
"""


def _command_page(name: str) -> str:
    command = read_command(name)
    link = _relative(f"{CLI}/{name}.md")
    positional = f" <{POSITIONAL[name]} ...>" if name in POSITIONAL else ""
    parts = [f"# reidlit {name}", f"{_text(command.summary)}.", *map(_text, command.notes)]
    parts += [f"Usage: `reidlit {name}{positional} [option=value ...]`", _examples(command.examples)]
    parts += ["## Options", _option_table(command.options)]
    if command.groups:
        rows = [
            (f"[`{group.name}`]({link(group_page(group.name))})", _code(group.default), _text(group.meaning))
            for group in command.groups
        ]
        parts += ["## Configuration groups", _table(("group", "default", "meaning"), rows)]
    return "\n\n".join(parts) + "\n"


def _config_index() -> str:
    link = _relative(f"{CONFIG}/index.md")
    rows = [
        (f"[`{group}`]({link(group_page(group))})", str(len(find_choices(group))), _text(GROUPS.get(group, "")))
        for group in find_groups()
    ]
    return f"""# Configuration groups

A configuration group is a part of the configuration with several choices. Select a choice with `<group>=<choice>`, and set
its options with `<group>.<option>=<value>`:

```sh
reidlit train loss=triplet loss.losses.triplet.margin=0.5
```

{_table(("group", "choices", "meaning"), rows)}
"""


def _group_page(group: str) -> str:
    link = _relative(group_page(group))
    names = find_choices(group)
    users = [command for command in COMMANDS if group in {each.name for each in read_command(command).groups}]
    parts = [f"# {group}", f"{_text(GROUPS.get(group, group))}."]
    if users:
        parts += [f"Commands: {', '.join(_command_link(command, link) for command in users)}."]
    parts += [_choice_table(group, names, link)]
    parts += [_choice_section(read_choice(group, name), link) for name in names]
    return "\n\n".join(parts) + "\n"


def _choice_section(choice: Choice, link: Callable[[str], str]) -> str:
    def name_link(group: str, name: str) -> str:
        return (
            f"[`{group}={name}`]({link(group_page(group))}#{name})" if group in find_groups() else f"`{group}={name}`"
        )

    parts = [f"## {choice.name} {{ #{choice.name} }}", f"{_text(choice.summary)}.", *map(_text, choice.notes)]
    if choice.examples:
        parts += [_examples(choice.examples)]
    if choice.targets:
        parts += [f"Builds: {', '.join(f'`{target}`' for target in choice.targets)}."]
    if choice.parts:
        parts += [f"Nested groups: {', '.join(name_link(*part) for part in choice.parts.items())}."]
    if choice.selects:
        parts += [f"Also selects: {', '.join(name_link(*selected) for selected in choice.selects.items())}."]
    if choice.includes:
        parts += [f"Includes the options of {', '.join(name_link(*included) for included in choice.includes)}."]
    if choice.is_recipe:
        parts += [f"```yaml\n{choice.body}\n```"]
    elif own := [option for option in choice.options if option.name in choice.own]:
        parts += [_option_table(own)]
    return "\n\n".join(parts)


def _command_link(name: str, link: Callable[[str], str]) -> str:
    return f"[`{name}`]({link(f'{CLI}/{name}.md')})"


def _command_table(link: Callable[[str], str]) -> str:
    rows = [(_command_link(name, link), _text(read_summary("", name))) for name in COMMANDS]
    return _table(("command", "what it does"), rows)


def _choice_table(group: str, names: Iterable[str], link: Callable[[str], str]) -> str:
    rows = [(f"[`{name}`]({link(group_page(group))}#{name})", _text(read_summary(group, name))) for name in names]
    return _table(("choice", "description"), rows)


def _option_table(options: Iterable[Option]) -> str:
    rows = []
    for option in options:
        default = {"": "", "???": "required"}.get(option.default, _code(option.default))
        rows.append((f"`{option.name}`", default, _text(option.meaning)))
    return _table(("option", "default", "meaning"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _examples(examples: Iterable[str]) -> str:
    return "\n".join(["```sh", *examples, "```"])


def _code(text: str) -> str:
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"


def _text(text: str) -> str:
    """Escape what Markdown would interpret, outside of backticks."""
    special = {"<": "&lt;", "|": "&#124;", "*": "&#42;", "{": "&#123;", "_": "&#95;"}
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else "".join(special.get(letter, letter) for letter in part) for part in parts
    )


def _relative(path: str) -> Callable[[str], str]:
    """Return a function that makes paths below docs/ relative to a page."""
    return lambda target: posixpath.relpath(target, posixpath.dirname(path) or ".")
