"""The trained model that a configuration names."""

from omegaconf import DictConfig

from reidlit.commands._settings import checkpoint_path, plain
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.loading import Trained, load_trained
from reidlit.models.weights import load_weights, read_tensors
from reidlit.spec import build

CLASSIFIERS = (
    "classifier.weight",
    "classifier.0.weight",
    "classifier_global.weight",
    "heads.weight",
)  # as files have them


def build_extractor(cfg: DictConfig, progress: bool = True) -> FeatureExtractor:
    """The trained model of `ckpt_path`, or of `weights` and `model`, as `extractor` says; see `load`."""
    options = plain(cfg.extractor) | {"progress": progress}
    size = options.pop("image_size")
    return FeatureExtractor(trained=load(cfg, None if size is None else (size[0], size[1])), **options)


def load(cfg: DictConfig, image_size: tuple[int, int] | None = None) -> Trained:
    """The trained model of `ckpt_path`, or of `weights` and `model`.

    Args:
        cfg: a command's configuration.
        image_size: height and width in pixels, instead of those of the checkpoint or 256 x 128.

    Raises:
        ValueError: if neither or both of the two are given, or they do not hold a whole model.
    """
    if (cfg.ckpt_path is None) == (cfg.weights is None):
        raise ValueError("give ckpt_path=<file.ckpt> of reidlit train, or weights=<file.pth> with model=<name>.")
    path = checkpoint_path(cfg.ckpt_path)
    if path is not None:
        return load_trained(path, image_size=image_size)
    if cfg.get("model") is None:
        raise ValueError(f"weights={cfg.weights} are of a model: name it with model=osnet_x1_0, say.")
    size = image_size or (256, 128)
    spec = plain(cfg.model)
    model = build(
        spec | ({"image_size": list(size)} if "image_size" in spec else {}), num_classes=_classes(cfg.weights)
    )
    report = load_weights(model, cfg.weights)
    if not report.embeds:
        raise ValueError(f"weights={cfg.weights} does not hold all that makes an embedding.\n{report}")
    return Trained(model.eval(), size, {})


def _classes(weights: str) -> int:
    """How many identities a weight file's classifier tells apart, so that it is kept; 1 where that is not seen."""
    shapes = [tensor.shape for name, tensor in read_tensors(weights).items() if name.endswith(CLASSIFIERS)]
    return int(shapes[0][0]) if shapes else 1
