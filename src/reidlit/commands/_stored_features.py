"""`reidlit test features=...`: score embeddings that `reidlit extract` has kept."""

from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from reidlit.commands import common
from reidlit.commands._results import describe, figures, print_table
from reidlit.files import write_json
from reidlit.inference.features import Features
from reidlit.metrics import evaluate
from reidlit.metrics.table import write_table
from reidlit.spec import build


def test_features(cfg: DictConfig) -> float:
    """Score the file, and leave `metrics.json` and `per_query.parquet`.

    Returns:
        The mAP.

    Raises:
        ValueError: if a model is given too, the file has no queries or no gallery, or identities are unknown.
    """
    if cfg.ckpt_path is not None or cfg.weights is not None:
        raise ValueError("features= holds embeddings already; leave out ckpt_path and weights.")
    features = Features.load(cfg.features)
    if cfg.temporal is not None:
        features = features.pooled(cfg.temporal)
    elif len(features) and features.tracklet.max() >= 0:
        raise ValueError(f"features={cfg.features} holds frames of tracklets: give temporal=average or temporal=max.")
    query, gallery = features.of_split("query"), features.of_split("gallery")
    if not len(query) or not len(gallery):
        raise ValueError(
            f"features={cfg.features} holds {len(query)} queries and {len(gallery)} gallery images; extract a dataset that "
            "has both, with splits=[query,gallery]."
        )
    evaluation = common.evaluation(cfg)
    flip = evaluation.pop("flip")
    if flip:
        raise ValueError("eval.flip=true needs the images; extract with extractor.flip=true instead.")
    options: dict[str, Any] = {**evaluation, "postprocess": [build(step) for step in evaluation["postprocess"]]}
    labels = (query.pid, gallery.pid, query.camid, gallery.camid)
    scores = evaluate(query.embedding, gallery.embedding, *labels, **options)
    name = Path(cfg.features).stem
    protocol = describe(evaluation, None)
    metrics = {f"test/{name}/{key}": value for key, value in figures(scores, protocol).items()}
    columns = dict(scores.per_query())
    if len(columns["ap"]) == len(query):  # with pooled queries a row is no image
        columns = {"path": query.path, "pid": query.pid, "camid": query.camid} | columns
    write_table(common.run_dir() / "per_query.parquet", {"dataset": np.full(len(columns["ap"]), name)} | columns)
    write_json(common.run_dir() / "metrics.json", metrics)
    print_table(metrics)
    for label, path in common.outputs():
        common.say(f"{label}: {path}")
    return scores.mAP
