"""Reading of YAML files that may come from strangers."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

MAX_BYTES = 2**22
MAX_NODES = 10**6
MAX_DEPTH = 100
# Interpolations that a file from a stranger may use: other settings, and the folders of datasets and packs. Others could
# reveal the environment or files.
FOLDERS = ("REIDLIT_DATA", "REIDLIT_PACKS")
REFERENCE = re.compile(r"\$\{(\.*)([\w/-]+(?:\.[\w/-]+)*)\}")
FOLDER = re.compile(rf"\$\{{oc\.env:({'|'.join(FOLDERS)}),\s*([^${{}}\\'\",]*)\}}")


def load_config(file: Path) -> Any:
    """Read a YAML file as an OmegaConf container, without resolving interpolations.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a valid YAML file of bounded size.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("config.yaml").write_text("seed: 1")
        >>> load_config(Path("config.yaml")).seed
        1
    """
    text = read_bounded(file)
    try:
        return OmegaConf.create(text)
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError, ValueError) as error:
        raise ValueError(f"{file} is not a valid configuration ({_summary(error)}).") from error


def without_interpolations(config: DictConfig) -> dict[str, Any]:
    """Return a configuration as a plain dict in which only references to other settings and to data folders are resolved.

    Any other interpolation, such as `${oc.env:HOME}`, remains as text.

    Raises:
        ValueError: If the references are cyclic or expand to a huge configuration.

    Example:
        >>> without_interpolations(OmegaConf.create({"seed": 1, "again": "${seed}", "user": "${oc.env:USER}"}))
        {'seed': 1, 'again': 1, 'user': '${oc.env:USER}'}
    """
    content = OmegaConf.to_container(config, resolve=False)
    return dict(_Resolution(content).resolved(content, ()))


class _Resolution:
    """Resolution of the references in plain content, of bounded depth and size."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.size = 0

    def resolved(self, value: Any, place: Sequence[str], depth: int = 0) -> Any:
        """Return a value with its references resolved.

        Args:
            value: Part of the content.
            place: Keys that lead to the value, for relative references.
            depth: Number of enclosing values and references.
        """
        self.size += 1 + (len(value) if isinstance(value, str) else 0)
        if depth > MAX_DEPTH or self.size > MAX_BYTES:
            raise ValueError("its references are cyclic or too large")
        if isinstance(value, dict):
            return {key: self.resolved(item, (*place, str(key)), depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolved(item, (*place, str(index)), depth + 1) for index, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        if match := REFERENCE.fullmatch(value):
            return self._target(match, place, depth)
        text = REFERENCE.sub(lambda match: str(self._target(match, place, depth)), value)
        return FOLDER.sub(lambda match: os.environ.get(match[1], match[2]), text)

    def _target(self, match: re.Match[str], place: Sequence[str], depth: int) -> Any:
        """Return the resolved value that a reference names, or its text if there is none."""
        dots, name = match.groups()
        keys = [*place[: max(0, len(place) - len(dots))], *name.split(".")] if dots else name.split(".")
        target = self.root
        for key in keys:
            if isinstance(target, dict) and key in target:
                target = target[key]
            elif isinstance(target, list) and key.isdecimal() and int(key) < len(target):
                target = target[int(key)]
            else:
                return match[0]
        return self.resolved(target, keys, depth + 1)


def read_bounded(file: Path) -> str:
    """Read the text of a YAML file after checking that parsing it cannot exhaust memory.

    A few lines of aliases can expand to gigabytes, so values are counted with every alias expanded.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a regular file, not YAML, or too large.
    """
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist.")
    if not file.is_file():
        raise ValueError(f"{file} is not a regular file.")
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"{file} is too large: must have at most {MAX_BYTES:,} bytes.")
    try:
        text = file.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        num_nodes = 0 if root is None else _expanded_size(root)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"{file} is not a valid YAML file ({_summary(error)}).") from error
    if num_nodes > MAX_NODES:
        raise ValueError(f"{file} is too large: must have at most {MAX_NODES:,} values.")
    return text


def _expanded_size(root: yaml.Node) -> int:
    """Return the number of nodes with every alias expanded.

    Raises:
        ValueError: If a node contains itself.
    """
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in open_nodes:
            raise ValueError("an alias refers to a value that contains it")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            children: list[yaml.Node] = []
            if isinstance(node, yaml.MappingNode):
                children = [child for pair in node.value for child in pair]
            elif isinstance(node, yaml.SequenceNode):
                children = node.value
            sizes[id(node)] = 1 + sum(size(child) for child in children)
            open_nodes.discard(id(node))
        return sizes[id(node)]

    return size(root)


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
