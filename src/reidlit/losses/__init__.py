"""Losses `loss(output, pid) -> scalar` of a model's output and the labels, in fp32."""

from reidlit.losses.cross_entropy import CrossEntropy
from reidlit.losses.margin import ArcFace, CircleSoftmax, CosFace
from reidlit.losses.triplet import Triplet
from reidlit.losses.weighted_sum import WeightedSum

__all__ = ["ArcFace", "CircleSoftmax", "CosFace", "CrossEntropy", "Triplet", "WeightedSum"]
