"""Validation and conversion of the inputs of an evaluation."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from reidlit.labels import UNKNOWN
from reidlit.metrics._ranking.types import Integers

LabelArray: TypeAlias = ArrayLike | Tensor

# A squared distance is at most (2 |x|)^2, which must not overflow float32.
LARGEST_NORM = float(np.sqrt(np.finfo(np.float32).max) / 2)

# PyTorch processes fewer than 2^15 numbers in a single thread. With more, its idle threads keep spinning and take cores
# from the matrix product that follows.
SERIAL_SIZE = 2**15 - 1


class Labels(NamedTuple):
    """Identities and cameras of queries (Q,) and gallery (G,); both camids are None without cameras.

    A negative camid is not a camera: each unknown camera has a distinct negative number.
    """

    q_pids: Integers
    g_pids: Integers
    q_camids: Integers | None
    g_camids: Integers | None

    @property
    def known_camids(self) -> tuple[Integers, Integers] | None:
        """Cameras of queries and gallery; None if any camera is unknown."""
        if self.q_camids is None or self.g_camids is None or min(self.q_camids.min(), self.g_camids.min()) < 0:
            return None
        return self.q_camids, self.g_camids

    @property
    def has_cameras(self) -> bool:
        """Whether the camera of any query or gallery entry is known."""
        return any(camids is not None and camids.max() >= 0 for camids in (self.q_camids, self.g_camids))


def check_integer(name: str, value: object, least: int) -> None:
    """Check that a value is an integer of at least `least`.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r} is invalid: must be an integer of at least {least}.")


def as_embeddings(name: str, value: ArrayLike | Tensor | None) -> Tensor:
    """Convert embeddings to a float32 tensor (N, D) on their device.

    Args:
        name: Name of the argument, for error messages.
        value: (N, D) array or tensor of any real dtype and memory layout.

    Returns:
        (N, D) contiguous float32 tensor; shares memory with `value` if no conversion is needed.

    Raises:
        ValueError: If the embeddings are not 2-D, empty, not real numbers, or not finite in float32.
    """
    if value is None:
        raise ValueError(f"{name} is None: pass embeddings (N, D), or a distance matrix as distance=.")
    if isinstance(value, Tensor):
        if value.is_complex():
            raise ValueError(f"{name} has dtype {value.dtype}: must be real numbers.")
        embedding = value.detach().float().contiguous()
    else:
        embedding = torch.from_numpy(_as_floats(name, np.asarray(value), np.float32))
    if embedding.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(embedding.shape)}: must be (N, D). Flatten each embedding first.")
    if 0 in embedding.shape:
        raise ValueError(f"{name} is empty, with shape {tuple(embedding.shape)}: pass at least one embedding.")
    bad = ~(squared_norms(embedding) <= LARGEST_NORM**2)  # NaN compares false
    if bad.any():
        raise ValueError(
            f"{name} contains {int(bad.sum())} of {len(bad)} embeddings that are NaN, infinite or too large for "
            f"float32, the first in row {int(bad.nonzero()[0])}. Check for a diverged model or a corrupt image."
        )
    return embedding


def squared_norms(embedding: Tensor) -> Tensor:
    """Compute the squared lengths (N,) of embeddings (N, D) without storing all squares at once."""
    rows = max(1, SERIAL_SIZE // embedding.shape[1]) if embedding.device.type == "cpu" else 2**14
    norms, squares = (
        embedding.new_empty(len(embedding)),
        embedding.new_empty(min(rows, len(embedding)), embedding.shape[1]),
    )
    for start in range(0, len(embedding), rows):
        chunk = embedding[start : start + rows]
        torch.sum(torch.mul(chunk, chunk, out=squares[: len(chunk)]), 1, out=norms[start : start + rows])
    return norms


def as_pair(query: ArrayLike | Tensor | None, gallery: ArrayLike | Tensor | None) -> tuple[Tensor, Tensor]:
    """Convert query (Q, D) and gallery (G, D) embeddings to float32 on the device of the gallery.

    Raises:
        ValueError: If one of them is not (N, D), empty or not finite, or if D differs.
    """
    q, g = as_embeddings("query", query), as_embeddings("gallery", gallery)
    if q.shape[1] != g.shape[1]:
        raise ValueError(
            f"query has {q.shape[1]} dimensions, but gallery has {g.shape[1]}: embed both with the same model."
        )
    return q.to(g.device), g


def as_labels(name: str, value: ArrayLike | Tensor, length: int, of: str) -> Integers:
    """Convert pids or camids to int64 (N,).

    Args:
        name: Name of the argument, for error messages.
        value: (N,) integers.
        length: Expected N.
        of: Name of the set that has this length, for error messages.

    Raises:
        ValueError: If the labels are not 1-D, not integers, or of another length.
    """
    labels = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if labels.ndim != 1 or len(labels) != length:
        raise ValueError(f"{name} has shape {labels.shape}: must be ({length},), one label per entry of {of}.")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name} has dtype {labels.dtype}: must be integers. Number the identities or cameras.")
    return labels.astype(np.int64)


def as_label_set(
    q_pids: LabelArray,
    g_pids: LabelArray,
    q_camids: LabelArray | None,
    g_camids: LabelArray | None,
    num_queries: int,
    num_gallery: int,
) -> Labels:
    """Validate the labels of both sets and give unknown cameras distinct numbers.

    Args:
        q_pids: (Q,) integers.
        g_pids: (G,) integers.
        q_camids: (Q,) integers, or None together with `g_camids`.
        g_camids: (G,) integers.
        num_queries: Q.
        num_gallery: G.

    Raises:
        ValueError: If labels are not integers of the expected length, or only one set has camids.
    """
    if (q_camids is None) != (g_camids is None):
        missing = "q_camids" if q_camids is None else "g_camids"
        raise ValueError(f"{missing} is None, but the other camids are not: pass both or neither.")
    pids = (
        as_labels("q_pids", q_pids, num_queries, "the query set"),
        as_labels("g_pids", g_pids, num_gallery, "the gallery"),
    )
    if q_camids is None or g_camids is None:
        return Labels(*pids, None, None)
    q_cams = _distinct_unknowns(as_labels("q_camids", q_camids, num_queries, "the query set"), 0)
    g_cams = _distinct_unknowns(as_labels("g_camids", g_camids, num_gallery, "the gallery"), num_queries)
    if max(q_cams.max(), g_cams.max()) < 0 and not np.isin(q_cams, g_cams).any():
        return Labels(*pids, None, None)  # no camera is known, and no query is in the gallery
    return Labels(*pids, q_cams, g_cams)


def as_distance_rows(value: NDArray[Any] | Tensor, start: int, stop: int) -> NDArray[Any]:
    """Convert rows of a distance matrix for the kernels. Only these rows are copied, so it may be a memory map.

    Args:
        value: (Q, G) array or tensor of any real dtype and memory layout. Infinite distances rank last.
        start: First row.
        stop: Row after the last one.

    Returns:
        (stop - start, G) contiguous array, float64 if float32 cannot represent the dtype of the matrix, else float32.

    Raises:
        ValueError: If the rows are not real numbers or contain NaN.
    """
    if isinstance(value, Tensor):
        block = value[start:stop].detach()
        rows = (block.float() if block.dtype == torch.bfloat16 else block).cpu().numpy()  # NumPy has no bfloat16
    else:
        rows = value[start:stop]
    # float16 and small integers fit in float32. Casting wider types would create ties.
    narrow = np.can_cast(rows.dtype, np.float32)
    rows = _as_floats("distance", rows, np.float32 if narrow else np.float64)
    if np.isnan(rows).any():
        row = start + int(np.isnan(rows).any(axis=1).argmax())
        raise ValueError(f"distance contains NaN, first in row {row}: check the embeddings that it was computed from.")
    return rows


def _as_floats(name: str, value: NDArray[Any], dtype: type[np.floating[Any]]) -> NDArray[Any]:
    if value.dtype.kind not in "fiu":
        raise ValueError(f"{name} has dtype {value.dtype}: must be real numbers.")
    # A writable base-class array: the kernels are compiled for it, and torch warns about read-only arrays.
    with np.errstate(over="ignore"):  # the caller reports overflows with their row
        return np.require(value, dtype, ["C", "W", "E"])


def _distinct_unknowns(camids: Integers, first: int) -> Integers:
    """Replace each unknown camera by a distinct negative number, counted from `first`."""
    unknown = np.flatnonzero(camids == UNKNOWN)
    if not len(unknown):
        return camids
    distinct = camids.copy()
    distinct[unknown] = np.iinfo(np.int64).min + first + unknown
    return distinct
