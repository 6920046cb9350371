"""Distances between two sets of embeddings, one block of queries at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

METRICS = ("euclidean", "cosine")


def pairwise_distance(query: Tensor, gallery: Tensor, metric: str = "euclidean") -> Tensor:
    """Distance of every query to every gallery embedding, in fp32 whatever comes in.

    The result is (Q, G): for large sets call it on blocks of queries.

    Args:
        query: (Q, D).
        gallery: (G, D), on the device of `query`.
        metric: "euclidean" for the squared Euclidean distance `|q|^2 + |g|^2 - 2qg`, "cosine" for `1 - cos`. The
            square root is left out: it changes no rank, but it would round different distances to the same number.
            Rounding can make the distance of near-duplicates slightly negative.

    Returns:
        (Q, G) float32, on the same device, without a gradient.

    Raises:
        ValueError: The metric is unknown or the shapes do not fit.
    """
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query and gallery must be (Q, D) and (G, D), got {tuple(query.shape)} and {tuple(gallery.shape)}"
        )
    return GalleryDistance(gallery, metric)(query)


class GalleryDistance:
    """Distances to one gallery, whose share of the work is done once for all blocks of queries."""

    def __init__(self, gallery: Tensor, metric: str) -> None:
        """Prepare the gallery.

        Args:
            gallery: (G, D).
            metric: One of `METRICS`, as in `pairwise_distance`.

        Raises:
            ValueError: The metric is unknown.
        """
        if metric not in METRICS:
            raise ValueError(f"metric={metric!r} is unknown; choose one of {', '.join(METRICS)}")
        self.metric = metric
        gallery = gallery.detach().float()
        self.gallery = normalize(gallery) if metric == "cosine" else gallery
        self.squared_norm = self.gallery.square().sum(1)

    def __call__(self, query: Tensor) -> Tensor:
        """Distances (Q, G) float32 of queries (Q, D)."""
        query = query.detach().float()
        with torch.autocast(query.device.type, enabled=False), full_precision():
            if self.metric == "cosine":
                return (normalize(query) @ self.gallery.T).neg_().add_(1)
            norms = query.square().sum(1, keepdim=True) + self.squared_norm
            return norms.addmm_(query, self.gallery.T, alpha=-2)


@contextmanager
def full_precision() -> Iterator[None]:
    """Multiply fp32 matrices in fp32, although training was allowed TF32 or bfloat16.

    `torch.set_float32_matmul_precision("high")` is common, and `|q|^2 + |g|^2 - 2qg` cancels: with 10 bits of mantissa
    near neighbours swap their ranks.
    """
    # Since 2.9 PyTorch keeps one setting a backend, and the older global one cannot be read once they differ.
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None))
    if all(hasattr(backend, "fp32_precision") for backend in backends):
        before = [backend.fp32_precision for backend in backends]
        try:
            for backend in backends:
                backend.fp32_precision = "ieee"
            yield
        finally:
            for backend, precision in zip(backends, before, strict=True):
                backend.fp32_precision = precision
    else:
        precision = torch.get_float32_matmul_precision()
        try:
            torch.set_float32_matmul_precision("highest")
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
