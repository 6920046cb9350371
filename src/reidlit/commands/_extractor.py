"""Loading of the trained model that a configuration names."""

from typing import Any

from omegaconf import DictConfig

from reidlit.commands._settings import checkpoint_path, plain
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.image_inputs import parse_image_size
from reidlit.inference.loading import DEFAULT_SIZE, TrainedModel, fitted, load_trained
from reidlit.models.weights import load_embedding_weights, read_tensors
from reidlit.spec import build

# Names of the classifier weight in the files of several projects.
CLASSIFIERS = ("classifier.weight", "classifier.0.weight", "classifier_global.weight", "heads.weight")


def build_extractor(cfg: DictConfig, **changes: Any) -> FeatureExtractor:
    """Build an extractor for the configured model; `changes` override the options of `cfg.extractor`."""
    options = plain(cfg.extractor) | {"progress": True} | changes
    trained = load(cfg, parse_image_size(options.pop("image_size")))
    return FeatureExtractor(trained=trained, **options)


def load(cfg: DictConfig, image_size: tuple[int, int] | None = None) -> TrainedModel:
    """Load the trained model of `ckpt_path`, or of `weights` and `model`.

    Args:
        cfg: Configuration of a command.
        image_size: Height and width in pixels; by default that of the checkpoint, or 256 x 128 for a weight file.

    Raises:
        ValueError: If neither or both of `ckpt_path` and `weights` are given, or the file lacks part of the model.
    """
    if (cfg.ckpt_path is None) == (cfg.weights is None):
        raise ValueError("Exactly one of ckpt_path=<file.ckpt> and weights=<file.pth> model=<name> is needed.")
    path = checkpoint_path(cfg.ckpt_path)
    if path is not None:
        return load_trained(path, image_size=image_size)
    if cfg.get("model") is None:
        raise ValueError(f"weights={cfg.weights} needs a model: add model=<name>, for example model=osnet_x1_0.")
    size = image_size or DEFAULT_SIZE
    model = build(fitted(plain(cfg.model), size), num_classes=_count_classes(cfg.weights))
    load_embedding_weights(model, cfg.weights, f"weights={cfg.weights}")
    return TrainedModel(model.eval(), size, {})


def _count_classes(weights: str) -> int:
    """Return the number of classes of the classifier in a weight file, or 1 if it has none."""
    tensors = read_tensors(weights)
    counts = [
        len(tensor) for name, tensor in tensors.items() if name.endswith(CLASSIFIERS) and tensor.ndim and len(tensor)
    ]
    return counts[0] if counts else 1
