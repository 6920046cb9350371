"""Retrieval metrics: CMC, mAP and mINP, from embeddings or from a distance matrix."""

from reidlit.metrics.centralisation import NeighbourCentralisation
from reidlit.metrics.distance import pairwise_distance
from reidlit.metrics.expansion import QueryExpansion
from reidlit.metrics.gnn import GNNReranking
from reidlit.metrics.k_reciprocal import KReciprocal, rerank
from reidlit.metrics.metric import ReIDMetric
from reidlit.metrics.nearest import nearest
from reidlit.metrics.retrieval import evaluate
from reidlit.metrics.scores import Scores

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
