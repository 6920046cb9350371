"""The trained model that a configuration names."""

from typing import Any

from omegaconf import DictConfig

from reidlit.commands._settings import checkpoint_path, plain
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.image_inputs import parse_image_size
from reidlit.inference.loading import DEFAULT_SIZE, TrainedModel, fitted, load_trained
from reidlit.models.weights import load_embedding_weights, read_tensors
from reidlit.spec import build

# Names of a classifier's weight in the files of several projects.
CLASSIFIERS = ("classifier.weight", "classifier.0.weight", "classifier_global.weight", "heads.weight")


def build_extractor(cfg: DictConfig, **changes: Any) -> FeatureExtractor:
    """Build an extractor for the model that `load` returns, with the options of `cfg.extractor` and changes to them."""
    options = plain(cfg.extractor) | {"progress": True} | changes
    trained = load(cfg, parse_image_size(options.pop("image_size")))
    return FeatureExtractor(trained=trained, **options)


def load(cfg: DictConfig, image_size: tuple[int, int] | None = None) -> TrainedModel:
    """Load the trained model of `ckpt_path`, or of `weights` and `model`.

    Args:
        cfg: Configuration of a command.
        image_size: Height and width in pixels, instead of the checkpoint's, or 256 x 128.

    Raises:
        ValueError: If neither or both of `ckpt_path` and `weights` are given, or they do not hold a whole model.
    """
    if (cfg.ckpt_path is None) == (cfg.weights is None):
        raise ValueError("give ckpt_path=<file.ckpt> of reidlit train, or weights=<file.pth> with model=<name>.")
    path = checkpoint_path(cfg.ckpt_path)
    if path is not None:
        return load_trained(path, image_size=image_size)
    if cfg.get("model") is None:
        raise ValueError(f"weights={cfg.weights} are of a model: name it with model=osnet_x1_0, say.")
    size = image_size or DEFAULT_SIZE
    model = build(fitted(plain(cfg.model), size), num_classes=_count_classes(cfg.weights))
    load_embedding_weights(model, cfg.weights, f"weights={cfg.weights}")
    return TrainedModel(model.eval(), size, {})


def _count_classes(weights: str) -> int:
    """Return the number of identities of a weight file's classifier, so that it is kept; 1 if there is none."""
    shapes = [tensor.shape for name, tensor in read_tensors(weights).items() if name.endswith(CLASSIFIERS)]
    return int(shapes[0][0]) if shapes else 1
