"""The extractor that a configuration names."""

from omegaconf import DictConfig

from reidlit.inference.extractor import FeatureExtractor
from reidlit.models.weights import load_weights
from reidlit.spec import build
from reidlit.tasks import common


def build_extractor(cfg: DictConfig, progress: bool = True) -> FeatureExtractor:
    """The trained model of `ckpt_path`, or of `weights` and `model`, as `extractor` says.

    Raises:
        ValueError: if neither or both of the two are given, or they do not hold a whole model.
    """
    if (cfg.ckpt_path is None) == (cfg.weights is None):
        raise ValueError("give ckpt_path=<file.ckpt> of reidlit train, or weights=<file.pth> with model=<name>.")
    options = common.plain(cfg.extractor) | {"progress": progress}
    path = common.checkpoint_path(cfg.ckpt_path)
    if path is not None:
        return FeatureExtractor(model_path=path, **options)
    if cfg.get("model") is None:
        raise ValueError(f"weights={cfg.weights} are of a model: name it with model=osnet_x1_0, say.")
    size = options["image_size"] or [256, 128]
    spec = common.plain(cfg.model)
    model = build(spec | ({"image_size": size} if "image_size" in spec else {}), num_classes=1)
    report = load_weights(model, cfg.weights)
    if not report.embeds:
        raise ValueError(f"weights={cfg.weights} does not hold all that makes an embedding.\n{report}")
    return FeatureExtractor(model=model.eval(), **options)
