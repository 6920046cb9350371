"""Retrieval metrics: CMC, mAP and mINP, from embeddings or from a distance matrix."""

from reidlit.metrics.distance import pairwise_distance
from reidlit.metrics.metric import ReIDMetric
from reidlit.metrics.retrieval import Scores, evaluate

__all__ = ["ReIDMetric", "Scores", "evaluate", "pairwise_distance"]
