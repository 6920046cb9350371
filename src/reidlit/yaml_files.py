"""Reading of YAML files that may come from strangers."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

MAX_BYTES = 2**22
MAX_NODES = 10**6


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
