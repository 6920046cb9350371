"""Retrieval metrics (CMC, mAP and mINP) from embeddings or a distance matrix, and re-ranking.

`ReIDMetric` is imported on first use, because importing torchmetrics takes as long as importing everything else.
"""

from typing import TYPE_CHECKING, Any

from reidlit.metrics.distance import pairwise_distance
from reidlit.metrics.nearest import nearest
from reidlit.metrics.rerank.centralisation import NeighbourCentralisation
from reidlit.metrics.rerank.expansion import QueryExpansion
from reidlit.metrics.rerank.gnn import GNNReranking
from reidlit.metrics.rerank.k_reciprocal import KReciprocal, rerank
from reidlit.metrics.retrieval import evaluate
from reidlit.metrics.scores import Scores

if TYPE_CHECKING:
    from reidlit.metrics.metric import ReIDMetric

__all__ = [
    "GNNReranking",
    "KReciprocal",
    "NeighbourCentralisation",
    "QueryExpansion",
    "ReIDMetric",
    "Scores",
    "evaluate",
    "nearest",
    "pairwise_distance",
    "rerank",
]


def __getattr__(name: str) -> Any:
    if name == "ReIDMetric":
        from reidlit.metrics.metric import ReIDMetric

        return ReIDMetric
    raise AttributeError(f"module 'reidlit.metrics' has no attribute {name!r}")
