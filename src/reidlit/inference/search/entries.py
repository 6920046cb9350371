"""Input and output types of galleries."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reidlit.inference.features import Features
from reidlit.inference.image_inputs import ImageInput
from reidlit.inference.search.store import Integers

Entries: TypeAlias = Features | ImageInput | Sequence[ImageInput]
"""Features from a file, embeddings (N, D), or images if the gallery has an extractor."""


class SearchResult(NamedTuple):
    """Nearest rows of each query, nearest first; of equal distances the older row comes first.

    Attributes:
        ids: Row ids (Q, k), int64; -1 where fewer than k rows were found.
        distances: Distances (Q, k), float32: squared Euclidean, cosine or re-ranked. Infinite where the id is -1.
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


def are_images(entries: Entries) -> TypeGuard[ImageInput | Sequence[ImageInput]]:
    """Return True if entries are images, and False if they are embeddings (N, D) or features."""
    return not isinstance(entries, Features) and not (isinstance(entries, Tensor | np.ndarray) and entries.ndim <= 2)


def path_names(paths: Sequence[str | Path] | None, count: int) -> list[str]:
    """Return the paths of `count` entries as strings; empty if `paths` is None.

    Raises:
        ValueError: If `paths` has another length or contains a null character.
    """
    names = [""] * count if paths is None else [str(path) for path in paths]
    if len(names) != count or any("\0" in name for name in names):
        raise ValueError(
            f"paths has {len(names)} entries: must have {count}, one path without null character per entry."
        )
    return names
