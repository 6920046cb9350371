"""Person re-identification with PyTorch Lightning and Hydra.

Public names are imported on first use, so that `import reidlit` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from reidlit import _moved

if TYPE_CHECKING:
    from reidlit.engine.reid import ReIDModule
    from reidlit.inference.extractor import FeatureExtractor
    from reidlit.inference.search.gallery import Gallery
    from reidlit.metrics import Scores, evaluate, rerank
    from reidlit.models.build import build_model
    from reidlit.models.weights import load_weights
    from reidlit.spec import trust

__version__ = "0.2.0.dev0"
__all__ = [
    "FeatureExtractor",
    "Gallery",
    "ReIDModule",
    "Scores",
    "__version__",
    "build_model",
    "evaluate",
    "load_weights",
    "rerank",
    "trust",
]

_MODULE_OF = {
    "FeatureExtractor": "reidlit.inference.extractor",
    "Gallery": "reidlit.inference.search.gallery",
    "ReIDModule": "reidlit.engine.reid",
    "Scores": "reidlit.metrics",
    "build_model": "reidlit.models.build",
    "evaluate": "reidlit.metrics",
    "load_weights": "reidlit.models.weights",
    "rerank": "reidlit.metrics",
    "trust": "reidlit.spec",
}

_moved.install()


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'reidlit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
