"""`reidlit verify`: are two images the same person?"""

import json
import sys

from omegaconf import DictConfig

from reidlit.commands._extractor import build_extractor
from reidlit.commands._settings import checkpoint_path
from reidlit.console import say
from reidlit.inference.calibration import Calibration, stored, verify


def run(cfg: DictConfig) -> None:
    """Print the distance, the threshold and the decision.

    Raises:
        ValueError: if there are not two images, or no threshold is known.
    """
    if len(cfg.images) != 2:
        raise ValueError(f"two images are compared, not {len(cfg.images)}: reidlit verify a.jpg b.jpg ckpt_path=last")
    calibration = None if cfg.threshold is not None else _calibration(cfg)
    metric = "euclidean"
    if calibration is not None:
        cfg.extractor.normalize, cfg.extractor.flip, metric = (
            calibration.normalize,
            calibration.flip,
            calibration.metric,
        )
    extractor = build_extractor(cfg, progress=False)
    threshold = float(cfg.threshold) if calibration is None else calibration.at(cfg.fpr)
    first, second = cfg.images
    verdict = verify(extractor, first, second, threshold, metric, cfg.camids)
    source = f"FPR {cfg.fpr:g} on {calibration.dataset}" if calibration else "as given"
    if cfg.json:
        sys.stdout.write(json.dumps({**verdict._asdict(), "metric": metric, "source": source}) + "\n")
        return
    unit = "cosine distance" if metric == "cosine" else "squared Euclidean distance"
    say(
        f"{'the same person' if verdict.same else 'different persons'}: {unit} {verdict.distance:.4g}, "
        f"threshold {verdict.threshold:.4g} ({source})"
    )


def _calibration(cfg: DictConfig) -> Calibration:
    source = cfg.calibration or checkpoint_path(cfg.ckpt_path)
    found = None if source is None else stored(source)
    if found is None:
        raise ValueError(
            "no threshold is known: train with a test set, or calibrate with `reidlit test ... ckpt_path=<file> calibrate=true`; "
            "for weights give calibration=<calibration.json of reidlit test>, or threshold=<number>."
        )
    return found
