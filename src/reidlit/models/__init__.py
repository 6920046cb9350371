"""Re-identification models: backbone, pooling, neck and classifier in one interface."""

from reidlit.models.build import build_model
from reidlit.models.model import ReIDModel
from reidlit.models.output import ReIDOutput
from reidlit.models.weights import LoadReport, load_weights

__all__ = ["LoadReport", "ReIDModel", "ReIDOutput", "build_model", "load_weights"]
