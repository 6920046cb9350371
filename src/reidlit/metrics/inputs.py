"""Validation and conversion of the inputs of an evaluation."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from reidlit.labels import UNKNOWN
from reidlit.metrics._ranking.types import Integers

LabelArray: TypeAlias = ArrayLike | Tensor

# A squared distance is at most (2 |x|)^2, which must not overflow.
LARGEST_NORM = float(np.sqrt(np.finfo(np.float32).max) / 2)

# PyTorch works on fewer numbers than 2^15 in one thread. Its other threads would go on spinning for a while and take
# cores from the product that comes next.
SERIAL = 2**15 - 1


class Labels(NamedTuple):
    """Identities and cameras of queries (Q,) and gallery (G,); both camids are None if none are given.

    A negative camid is not a camera; each unknown camera has its own.
    """

    q_pids: Integers
    g_pids: Integers
    q_camids: Integers | None
    g_camids: Integers | None

    @property
    def known_camids(self) -> tuple[Integers, Integers] | None:
        """The cameras of queries and gallery, or None unless all of them are known."""
        if self.q_camids is None or self.g_camids is None or min(self.q_camids.min(), self.g_camids.min()) < 0:
            return None
        return self.q_camids, self.g_camids

    @property
    def has_cameras(self) -> bool:
        """Whether the camera of any query or gallery entry is known."""
        return any(camids is not None and camids.max() >= 0 for camids in (self.q_camids, self.g_camids))


def check_integer(name: str, value: object, least: int) -> None:
    """Refuse a value that is not an integer of at least `least`.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value} must be an integer of at least {least}")


def as_embeddings(name: str, value: ArrayLike | Tensor | None) -> Tensor:
    """Embeddings as a float32 tensor (N, D) on their device.

    Args:
        name: The argument's name, for errors.
        value: (N, D) array or tensor of any real type and layout.

    Returns:
        (N, D) float32, contiguous; the caller's memory where nothing had to change.

    Raises:
        ValueError: Not 2-D, empty, not numeric, or not finite in float32.
    """
    if value is None:
        raise ValueError(f"{name} is None; pass embeddings (N, D), or a matrix as distance=")
    if isinstance(value, Tensor):
        if value.is_complex():
            raise ValueError(f"{name} is {value.dtype}; pass real embeddings")
        embedding = value.detach().float().contiguous()
    else:
        embedding = torch.from_numpy(_as_floats(name, np.asarray(value), np.float32))
    if embedding.ndim != 2:
        raise ValueError(f"{name} must be (N, D), got shape {tuple(embedding.shape)}; flatten each embedding first")
    if 0 in embedding.shape:
        raise ValueError(f"{name} is empty, shape {tuple(embedding.shape)}; pass at least one embedding")
    bad = ~(squared_norms(embedding) <= LARGEST_NORM**2)  # NaN compares false
    if bad.any():
        raise ValueError(
            f"{name} holds {int(bad.sum())} of {len(bad)} embeddings that are NaN, infinite or too large for float32, "
            f"the first in row {int(bad.nonzero()[0])}; look for a diverged model or a broken image"
        )
    return embedding


def squared_norms(embedding: Tensor) -> Tensor:
    """(N,) squared lengths of (N, D), without the squares of all embeddings at once."""
    rows = max(1, SERIAL // embedding.shape[1]) if embedding.device.type == "cpu" else 2**14
    norms, squares = (
        embedding.new_empty(len(embedding)),
        embedding.new_empty(min(rows, len(embedding)), embedding.shape[1]),
    )
    for start in range(0, len(embedding), rows):
        part = embedding[start : start + rows]
        torch.sum(torch.mul(part, part, out=squares[: len(part)]), 1, out=norms[start : start + rows])
    return norms


def as_pair(query: ArrayLike | Tensor | None, gallery: ArrayLike | Tensor | None) -> tuple[Tensor, Tensor]:
    """Query (Q, D) and gallery (G, D) embeddings in float32 on the gallery's device.

    Raises:
        ValueError: One of them is not (N, D), empty or not finite, or they differ in D.
    """
    q, g = as_embeddings("query", query), as_embeddings("gallery", gallery)
    if q.shape[1] != g.shape[1]:
        raise ValueError(
            f"query has {q.shape[1]} dimensions and gallery has {g.shape[1]}; embed both sets with the same model"
        )
    return q.to(g.device), g


def as_labels(name: str, value: ArrayLike | Tensor, length: int, of: str) -> Integers:
    """Person or camera ids as int64 (N,).

    Args:
        name: The argument's name, for errors.
        value: (N,) integers.
        length: The N that is needed.
        of: What has that length, for errors.

    Returns:
        (N,) int64.

    Raises:
        ValueError: Not 1-D, not integers, or of another length.
    """
    labels = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if labels.ndim != 1 or len(labels) != length:
        raise ValueError(f"{name} has shape {labels.shape}, but {of} needs ({length},); pass one label for each")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name} has dtype {labels.dtype}; pass integers (number the identities or cameras)")
    return labels.astype(np.int64)


def as_label_set(
    q_pids: LabelArray,
    g_pids: LabelArray,
    q_camids: LabelArray | None,
    g_camids: LabelArray | None,
    num_queries: int,
    num_gallery: int,
) -> Labels:
    """Validate the labels of both sets and tell unknown cameras apart.

    Args:
        q_pids: (Q,) integers.
        g_pids: (G,) integers.
        q_camids: (Q,) integers, or None together with `g_camids`.
        g_camids: (G,) integers.
        num_queries: Q.
        num_gallery: G.

    Raises:
        ValueError: If labels are not integers of the right length, or only one set has camids.
    """
    if (q_camids is None) != (g_camids is None):
        missing = "q_camids" if q_camids is None else "g_camids"
        raise ValueError(f"{missing} is None while the other camids are given; pass both, or neither")
    pids = (
        as_labels("q_pids", q_pids, num_queries, "the query set"),
        as_labels("g_pids", g_pids, num_gallery, "the gallery"),
    )
    if q_camids is None or g_camids is None:
        return Labels(*pids, None, None)
    q_cams = _distinct_unknowns(as_labels("q_camids", q_camids, num_queries, "the query set"), 0)
    g_cams = _distinct_unknowns(as_labels("g_camids", g_camids, num_gallery, "the gallery"), num_queries)
    if max(q_cams.max(), g_cams.max()) < 0 and not np.isin(q_cams, g_cams).any():
        return Labels(*pids, None, None)  # no camera, and no query is in the gallery
    return Labels(*pids, q_cams, g_cams)


def as_distance_rows(value: NDArray[Any] | Tensor, start: int, stop: int) -> NDArray[Any]:
    """Rows of a given distance matrix, for the kernels: only these are copied, so the matrix may be a memory map.

    Args:
        value: (Q, G) array or tensor of any real type and layout.
        start: First row.
        stop: Row after the last.

    Returns:
        (stop - start, G), float64 where the matrix is wider than float32 and float32 otherwise, contiguous.

    Raises:
        ValueError: Not numeric, or NaN. Infinite distances are ranks like others: the last.
    """
    if isinstance(value, Tensor):
        part = value[start:stop].detach()
        rows = (part.float() if part.dtype == torch.bfloat16 else part).cpu().numpy()  # NumPy has no bfloat16
    else:
        rows = value[start:stop]
    # float16 and small integers fit in float32; the others would be given ties that they do not have.
    narrow = np.can_cast(rows.dtype, np.float32)
    rows = _as_floats("distance", rows, np.float32 if narrow else np.float64)
    if np.isnan(rows).any():
        row = start + int(np.isnan(rows).any(axis=1).argmax())
        raise ValueError(f"distance holds NaN, first in row {row}; look for NaN in what it was computed from")
    return rows


def _as_floats(name: str, value: NDArray[Any], dtype: type[np.floating[Any]]) -> NDArray[Any]:
    if value.dtype.kind not in "fiu":
        raise ValueError(f"{name} has dtype {value.dtype}; pass real numbers")
    # Writable and a plain array, because the kernels are compiled for that and torch warns about the rest.
    with np.errstate(over="ignore"):  # what float32 cannot hold is reported by the caller, by its row
        return np.require(value, dtype, ["C", "W", "E"])


def _distinct_unknowns(camids: Integers, first: int) -> Integers:
    """Give each unknown camera its own negative number, counted from `first`, so that no two of them are equal."""
    unknown = np.flatnonzero(camids == UNKNOWN)
    if not len(unknown):
        return camids
    distinct = camids.copy()
    distinct[unknown] = np.iinfo(np.int64).min + first + unknown
    return distinct
