"""Forms in which a gallery takes entries and returns results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reidlit.inference.features import Features
from reidlit.inference.image_inputs import Given
from reidlit.inference.search.store import Integers

Entries: TypeAlias = Features | Given | Sequence[Given]
"""Features of a file, embeddings (N, D), or, where the gallery has an extractor, images."""


class SearchResult(NamedTuple):
    """Nearest rows of each query, nearest first; ties are in order of age.

    Attributes:
        ids: (Q, k) int64; -1 where fewer than k rows were found.
        distances: (Q, k) float32 squared Euclidean, cosine or re-ranked distances; infinite where the id is -1.
    """

    ids: Integers
    distances: NDArray[np.float32]


class EntryInfo(NamedTuple):
    """Labels and image paths of gallery rows.

    Attributes:
        pids: Identities; negative where unknown.
        camids: Cameras; negative where unknown.
        paths: Image paths; empty where unknown.
    """

    pids: Integers
    camids: Integers
    paths: NDArray[Any]


def are_images(entries: Entries) -> TypeGuard[Given | Sequence[Given]]:
    """Return True if entries are images to embed, and not embeddings (N, D)."""
    return not isinstance(entries, Features) and not (isinstance(entries, Tensor | np.ndarray) and entries.ndim <= 2)


def path_names(paths: Sequence[str | Path] | None, count: int) -> list[str]:
    """Return the file names of `count` entries as text; empty where no paths are given.

    Raises:
        ValueError: If `paths` has another length or contains a null character.
    """
    names = [""] * count if paths is None else [str(path) for path in paths]
    if len(names) != count or any("\0" in name for name in names):
        raise ValueError(f"paths has {len(names)} file names for {count} entries; give one for each.")
    return names
