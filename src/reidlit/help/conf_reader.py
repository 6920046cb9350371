"""Reader of the comments in conf/, the only place where options are described.

`reidlit --help` and the reference pages of the documentation are both written from what this module returns. It imports
PyYAML and nothing heavier, so that help appears at once.

A comment block at the top of a YAML describes the file: the first line is its summary, lines that start with `reidlit ` are
examples, and the rest are notes. The comment after a value, or the lines directly above its key, describe an option. Keys of a
block mapping are options themselves; a flow mapping, such as `{a: 1}`, is one option.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from reidlit.config import CONFIG_DIR

GROUPS = {
    "averaging": "Weight averaging during training",
    "callbacks": "Checkpoints, monitoring, freezing, ranked lists",
    "callbacks/search": "Callbacks that an architecture search adds",
    "callbacks/selection": "Checkpoint selection that an engine adds",
    "data": "Dataset and data loading",
    "engine": "Training procedure",
    "eval": "Evaluation protocol, re-ranking and metrics",
    "experiment": "Recipe that sets other groups and options",
    "extractor": "Embedding of images",
    "hydra/sweeper": "Search algorithm of a sweep (`reidlit train -m`)",
    "loading": "Options of all datasets, included by `data`",
    "logger": "Experiment loggers",
    "loss": "Training loss",
    "model": "Network: backbone, pooling, neck, classifier",
    "model/classifier": "Classifier over the training identities",
    "model/neck": "Layers between the pooled features and the classifier",
    "model/pool": "Pooling of the feature map into a vector",
    "model/temporal": "Temporal pooling of the frames of a clip",
    "optimizer": "Optimizer and learning rate",
    "sampler": "Batch sampler of the training set",
    "scheduler": "Learning-rate schedule",
    "trainer": "Lightning Trainer: devices, epochs, precision",
    "transforms": "Data augmentation and preprocessing",
}
# Groups without a `@package` line that other files include under a different key.
_PACKAGES = {"callbacks/search": "callbacks", "callbacks/selection": "callbacks", "loading": "data"}
_SELF = "_self_"
_COMMENT = re.compile(r":?\s*#\s?(.*)")


@dataclass(frozen=True)
class Option:
    """An option of a command or of a choice.

    Attributes:
        name: Dotted name as on the command line, for example `optimizer.lr`.
        default: Default value as written in the YAML; empty for a mapping whose keys are listed as options.
        meaning: One-line description.
    """

    name: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Choice:
    """A choice of a configuration group: one YAML file.

    Attributes:
        group: Group name, for example `model` or `model/pool`.
        name: Name of the choice.
        summary: One-line description.
        notes: Further paragraphs, such as the paper and its published results.
        examples: Example command lines.
        targets: Dotted names of the classes and functions that the choice builds.
        options: All options, including those of included files.
        own: Names of the options that the file itself contains.
        includes: Choices whose options are included, as `(group, name)`.
        parts: Selected choice of each nested group, by group.
        selects: Choices of other groups that this choice selects, by group.
        is_recipe: Whether the options are those of other groups, as in an experiment.
        body: YAML text without the header comments.
    """

    group: str
    name: str
    summary: str
    notes: tuple[str, ...]
    examples: tuple[str, ...]
    targets: tuple[str, ...]
    options: tuple[Option, ...]
    own: tuple[str, ...]
    includes: tuple[tuple[str, str], ...]
    parts: dict[str, str]
    selects: dict[str, str]
    is_recipe: bool
    body: str


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes:
        name: Command name.
        summary: One sentence on what the command does.
        notes: Further paragraphs.
        examples: Example command lines.
        options: The command's own options, without those of its groups.
        groups: Configuration groups, each with the selected choice as its default; `null` for none.
    """

    name: str
    summary: str
    notes: tuple[str, ...]
    examples: tuple[str, ...]
    options: tuple[Option, ...]
    groups: tuple[Option, ...]


@dataclass(frozen=True)
class _Header:
    summary: str
    notes: tuple[str, ...]
    examples: tuple[str, ...]
    package: str | None
    length: int  # number of lines


def find_groups(folders: Sequence[Path] = (CONFIG_DIR,)) -> list[str]:
    """Return the names of all configuration groups, sorted."""
    files = [path.relative_to(folder).parent for folder in folders for path in folder.rglob("*.yaml")]
    return sorted({parent.as_posix() for parent in files} - {"."})


def find_choices(group: str, folders: Sequence[Path] = (CONFIG_DIR,)) -> list[str]:
    """Return the names of the choices of a group, sorted."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def read_summary(group: str, name: str, folders: Sequence[Path] = (CONFIG_DIR,)) -> str:
    """Return the one-line description of a choice, or of a command if `group` is empty."""
    return _read_header(_read_lines(group, name, folders)).summary


def read_choice(group: str, name: str, folders: Sequence[Path] = (CONFIG_DIR,), package: str | None = None) -> Choice:
    """Return the description of a choice of a group.

    Args:
        group: Group name.
        name: Name of the choice.
        folders: Configuration folders; later folders are searched only for what the earlier ones lack.
        package: Key that contains the options. Default: the one in the file, otherwise the name of the group.

    Raises:
        FileNotFoundError: If the group has no such choice.
    """
    lines = _read_lines(group, name, folders)
    header = _read_header(lines)
    root = yaml.compose("\n".join(lines), Loader=yaml.SafeLoader)
    package = package or header.package or _PACKAGES.get(group, group.replace("/", "."))
    is_recipe = package == "_global_"
    prefix = "" if is_recipe else f"{package}."
    own = {option.name: option for option in _read_options(root, lines, header.length, prefix, flatten=is_recipe)}
    merged: dict[str, Option] = {}
    includes: list[tuple[str, str]] = []
    parts: dict[str, str] = {}
    selects: dict[str, str] = {}
    defaults = [*_read_defaults(root)]
    for key, value in defaults if (_SELF, None) in defaults else [*defaults, (_SELF, None)]:
        path, _, place = key.removeprefix("override ").partition("@")
        if key == _SELF:
            _merge(merged, own.values())
        elif key.startswith("override ") or place.startswith("_global_"):
            if not path.lstrip("/").startswith("hydra/") and value is not None:
                selects[path.lstrip("/")] = value
        elif value is None or place == "_here_":
            included = (group, key) if value is None else (path.lstrip("/"), value)
            includes.append(included)
            base = read_choice(*included, folders, package)
            _merge(merged, base.options)
            parts |= base.parts
            selects = base.selects | selects
        else:
            parts[f"{group}/{path}"] = value
    return Choice(
        group=group,
        name=name,
        summary=header.summary,
        notes=header.notes,
        examples=header.examples,
        targets=tuple(dict.fromkeys(_find_targets(root))),
        options=tuple(merged.values()),
        own=tuple(own),
        includes=tuple(includes),
        parts=parts,
        selects=selects,
        is_recipe=is_recipe,
        body="\n".join(lines[header.length :]).strip(),
    )


def read_command(name: str, overrides: Sequence[str] = (), folders: Sequence[Path] = (CONFIG_DIR,)) -> Command:
    """Return the description of a command.

    Args:
        name: Command name.
        overrides: Arguments such as `model=resnet50` that replace choices and defaults.
        folders: Configuration folders.
    """
    lines = _read_lines("", name, folders)
    header = _read_header(lines)
    root = yaml.compose("\n".join(lines), Loader=yaml.SafeLoader)
    replaced = dict(override.lstrip("+").partition("=")[::2] for override in overrides if "=" in override)

    def current(options: Iterable[Option]) -> tuple[Option, ...]:
        return tuple(replace(option, default=replaced.get(option.name, option.default)) for option in options)

    return Command(
        name=name,
        summary=header.summary,
        notes=header.notes,
        examples=header.examples,
        options=current(_read_options(root, lines, header.length, "")),
        groups=current(_read_groups(root, lines, header.length)),
    )


def _read_lines(group: str, name: str, folders: Sequence[Path]) -> list[str]:
    paths = [folder / group / f"{name}.yaml" for folder in folders]
    path = next((path for path in paths if path.is_file()), paths[0])
    return path.read_text(encoding="utf-8").splitlines()


def _read_header(lines: Sequence[str]) -> _Header:
    """Read the comment block at the top of a file."""
    length = next((row for row, line in enumerate(lines) if not line.startswith("#")), len(lines))
    texts = [line.removeprefix("#").strip() for line in lines[:length]]
    package = next((text.removeprefix("@package ") for text in texts if text.startswith("@package ")), None)
    texts = [text for text in texts if not text.startswith("@")]
    summary, *rest = texts or [""]
    paragraphs = "\n".join("" if text.startswith("reidlit ") else text for text in rest).split("\n\n")
    return _Header(
        summary=summary,
        notes=tuple(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip()),
        examples=tuple(text for text in rest if text.startswith("reidlit ")),
        package=package,
        length=length,
    )


def _read_defaults(root: yaml.Node | None) -> Iterator[tuple[str, str | None]]:
    """Yield the entries of the defaults list; the value is None where an entry is a single word or null."""
    for key, value in _items(root):
        if key.value == "defaults" and isinstance(value, yaml.SequenceNode):
            for entry in value.value:
                if isinstance(entry, yaml.ScalarNode):
                    yield entry.value, None
                for group, choice in _items(entry):
                    yield group.value, None if choice.value in ("null", "") else choice.value


def _read_groups(root: yaml.Node | None, lines: Sequence[str], start: int) -> Iterator[Option]:
    """Yield the configuration groups of a command; a comment in the defaults list replaces the meaning in `GROUPS`."""
    entries = [entry for key, value in _items(root) if key.value == "defaults" for entry in value.value]
    for key, value in (item for entry in entries for item in _items(entry)):
        if not key.value.startswith("override "):
            group = key.value.removeprefix("optional ")
            yield Option(group, value.value, _read_comment(lines, key, value, start) or GROUPS.get(group, ""))


def _read_options(
    root: yaml.Node | None, lines: Sequence[str], start: int, prefix: str, flatten: bool = False
) -> Iterator[Option]:
    """Yield the options of a mapping.

    Args:
        root: Mapping.
        lines: Lines of the file.
        start: First line whose comment does not belong to the file.
        prefix: Prefix of the names.
        flatten: Whether to yield the keys of flow mappings instead of the mappings.
    """
    for key, value in _items(root):
        if key.value.startswith("_") or key.value == "defaults" or (not prefix and key.value == "hydra"):
            continue
        is_mapping = isinstance(value, yaml.MappingNode)
        is_section = is_mapping and not value.flow_style
        if not (is_mapping and flatten):
            default = "" if is_section else _source(lines, value)
            yield Option(prefix + key.value, default, _read_comment(lines, key, value, start))
        if is_section or (is_mapping and flatten):
            yield from _read_options(value, lines, start, f"{prefix}{key.value}.", flatten)


def _read_comment(lines: Sequence[str], key: yaml.Node, value: yaml.Node, start: int) -> str:
    """Return the comment after a value, else the comment lines directly above its key."""
    is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    mark = key.end_mark if is_block else value.end_mark
    if mark.line < len(lines) and (match := _COMMENT.fullmatch(lines[mark.line][mark.column :])):
        return match[1].strip()
    above: list[str] = []
    for line in reversed(lines[start : key.start_mark.line]):
        if not line.strip().startswith("#") or len(line) - len(line.lstrip()) != key.start_mark.column:
            break
        above.insert(0, line.strip().removeprefix("#").strip())
    return " ".join(above)


def _source(lines: Sequence[str], node: yaml.Node) -> str:
    """Return the text of a node as it is written in the file, on one line."""
    text = "\n".join(lines)[node.start_mark.index : node.end_mark.index]
    return " ".join(text.split())


def _find_targets(node: yaml.Node | None) -> Iterator[str]:
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _find_targets(child)
    for key, value in _items(node):
        if key.value == "_target_":
            yield value.value
        yield from _find_targets(value)


def _items(node: yaml.Node | None) -> list[tuple[Any, Any]]:
    return node.value if isinstance(node, yaml.MappingNode) else []


def _merge(options: dict[str, Option], added: Iterable[Option]) -> None:
    """Add options; an option without a comment keeps the meaning that it overrides."""
    for option in added:
        known = options.get(option.name)
        options[option.name] = replace(option, meaning=option.meaning or known.meaning) if known else option
