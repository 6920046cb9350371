"""`reidlit verify`: decide whether two images show the same person."""

import json
import sys
from typing import Any

from omegaconf import DictConfig

from reidlit.commands._extractor import build_extractor
from reidlit.commands._settings import checkpoint_path
from reidlit.console import say
from reidlit.inference.calibration import Calibration, stored, verify


def run(cfg: DictConfig) -> None:
    """Print the distance, the threshold and the decision.

    Raises:
        ValueError: If there are not exactly two images, or no threshold is available.
    """
    if len(cfg.images) != 2:
        raise ValueError(
            f"images={list(cfg.images)} is invalid: give exactly two, as in `reidlit verify a.jpg b.jpg "
            "ckpt_path=last`."
        )
    if cfg.threshold is not None:
        options: dict[str, Any] = {}
        metric, threshold, source = "euclidean", float(cfg.threshold), "as given"
    else:
        calibration = _calibration(cfg)
        # A threshold is valid only for the preprocessing with which it was measured.
        options = {"normalize": calibration.normalize, "flip": calibration.flip}
        metric, threshold = calibration.metric, calibration.at(cfg.fpr)
        source = f"FPR {cfg.fpr:g} on {calibration.dataset}"
    extractor = build_extractor(cfg, progress=False, **options)
    first, second = cfg.images
    verdict = verify(extractor, first, second, threshold, metric, cfg.camids)
    if cfg.json:
        sys.stdout.write(json.dumps({**verdict._asdict(), "metric": metric, "source": source}) + "\n")
        return
    unit = "cosine distance" if metric == "cosine" else "squared Euclidean distance"
    say(
        f"{'same person' if verdict.same else 'different persons'}: {unit} {verdict.distance:.4g}, "
        f"threshold {verdict.threshold:.4g} ({source})"
    )


def _calibration(cfg: DictConfig) -> Calibration:
    source = cfg.calibration or checkpoint_path(cfg.ckpt_path)
    calibration = None if source is None else stored(source)
    if calibration is None:
        raise ValueError(
            f"No threshold is available{'' if source is None else f' in {source}'}: give threshold=<number>, or "
            "calibration=<calibration.json of reidlit test>. To store thresholds in a checkpoint, run `reidlit test ckpt_path=<file> calibrate=true`."
        )
    return calibration
