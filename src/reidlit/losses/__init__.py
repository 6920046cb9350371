"""Training losses. Each takes a model output and labels, `loss(output, pid)`, and returns a scalar in fp32."""

from reidlit.losses.batch_all_triplet import BatchAllTriplet
from reidlit.losses.center import CenterLoss
from reidlit.losses.centroid_triplet import CentroidTriplet
from reidlit.losses.circle import Circle
from reidlit.losses.cross_entropy import CrossEntropy
from reidlit.losses.margin import ArcFace, CircleSoftmax, CosFace
from reidlit.losses.memory import PrototypeMemory
from reidlit.losses.metric_learning import MetricLearning
from reidlit.losses.smooth_ap import SmoothAP
from reidlit.losses.supcon import SupCon
from reidlit.losses.triplet import Triplet
from reidlit.losses.weighted_sum import WeightedSum
from reidlit.losses.weighted_triplet import WeightedTriplet

__all__ = [
    "ArcFace",
    "BatchAllTriplet",
    "CenterLoss",
    "CentroidTriplet",
    "Circle",
    "CircleSoftmax",
    "CosFace",
    "CrossEntropy",
    "MetricLearning",
    "PrototypeMemory",
    "SmoothAP",
    "SupCon",
    "Triplet",
    "WeightedSum",
    "WeightedTriplet",
]
