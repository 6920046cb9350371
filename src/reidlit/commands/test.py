"""`reidlit test`: evaluate a checkpoint, a weight file or stored features."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from omegaconf import DictConfig

from reidlit.commands._data import build_datamodule
from reidlit.commands._errors import wrong_types_named
from reidlit.commands._evaluation import announce, evaluate_module, publish
from reidlit.commands._modules import load_tested_module
from reidlit.commands._settings import checkpoint_path, current_run, evaluation, is_given, with_settings
from reidlit.commands._trainer import build_trainer
from reidlit.console import say
from reidlit.data.attribute_data import AttributeDataModule
from reidlit.data.datamodule import ReIDDataModule
from reidlit.engine.attributes import AttributeModule
from reidlit.engine.base import AnyModule
from reidlit.files import file_version
from reidlit.inference.features import Features
from reidlit.metrics import evaluate
from reidlit.runs.metric_values import protocol_line, retrieval_metrics
from reidlit.runs.result import RunResult, TestResult
from reidlit.runs.result_tables import print_results
from reidlit.spec import build
from reidlit.tables import write_table


def run(cfg: DictConfig) -> float:
    """Evaluate on all test sets.

    Returns:
        mAP on the first test set, or mA for attributes.

    Raises:
        ValueError: If not exactly one of `ckpt_path`, `weights` and `features` is given, or it does not fit `data`.
    """
    if cfg.features is not None:
        return test_features(cfg)
    refuse_invalid_source(cfg)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    path = checkpoint_path(cfg.ckpt_path)
    version = file_version(path) if path else None
    module = load_tested_module(cfg, path)
    cfg = settle(cfg, module, path)
    datamodule = prepare_data(cfg, module)
    trainer = build_trainer(cfg)
    result = RunResult(evaluate_module(trainer, module, datamodule))
    calibrated = Path(path) if path and cfg.calibrate else None
    publish(result, trainer, module, datamodule, calibrated, version)
    return math.nan if result.score is None else result.score


def refuse_invalid_source(cfg: DictConfig) -> None:
    """Check that the settings name exactly one model.

    Raises:
        ValueError: If neither or both of `ckpt_path` and `weights` are given, or a setting needs `features`.
    """
    if cfg.temporal is not None:
        raise ValueError(
            f"temporal={cfg.temporal} applies only to features=<file>. Use model/temporal={cfg.temporal} for a model."
        )
    if (cfg.ckpt_path is None) == (cfg.weights is None):
        raise ValueError(
            "Exactly one of ckpt_path, weights and features is needed: ckpt_path=<file.ckpt> or ckpt_path=last, "
            "weights=<file.pth> model=<name>, or features=<file of reidlit extract>."
        )


@wrong_types_named()
def settle(cfg: DictConfig, module: AnyModule, path: str | None) -> DictConfig:
    """Set the image size of the checkpoint, unless the command line sets one, and save the final configuration."""
    settled: dict[str, Any] = {"ckpt_path": path}
    if not is_given("data.height", "data.width"):
        height, width = module.hparams["image_size"]
        settled |= {"data.height": height, "data.width": width}
    cfg = with_settings(cfg, settled)
    current_run().save_config(cfg)
    return cfg


@wrong_types_named()
def prepare_data(cfg: DictConfig, module: AnyModule) -> ReIDDataModule:
    """Build the dataset, check that its files exist, and set up its test sets.

    Raises:
        ValueError: If the dataset has no test images, or does not fit the module.
    """
    datamodule = build_datamodule(cfg)
    has_attributes = isinstance(datamodule, AttributeDataModule)
    if isinstance(module, AttributeModule) and not has_attributes:
        raise ValueError(
            f"ckpt_path={cfg.ckpt_path} predicts attributes, but data={datamodule.name} has no attribute labels: use "
            "data=pa100k, data=attribute_csv or data=synthetic_attributes."
        )
    if has_attributes and not isinstance(module, AttributeModule):
        raise ValueError(
            f"ckpt_path={cfg.ckpt_path} was not trained with engine=attributes, but data={datamodule.name} has only "
            "attribute labels: use a dataset with identities."
        )
    datamodule.prepare_data()
    if isinstance(datamodule, AttributeDataModule):
        datamodule.names = module.hparams["attributes"]
        if datamodule.missing:
            say(f"attributes without labels in data={datamodule.name} (not tested): {', '.join(datamodule.missing)}")
    datamodule.setup("test")
    if not datamodule.test_sets:
        raise ValueError(f"data={datamodule.name} has no test images: use a dataset with a test set.")
    for notice in dict.fromkeys(part.usage_notice for part in datamodule.targets if part.usage_notice):
        say(notice)
    return datamodule


def test_features(cfg: DictConfig) -> float:
    """Evaluate the embeddings of a features file, and write `metrics.json` and `per_query.parquet`.

    Returns:
        mAP of the embeddings.

    Raises:
        ValueError: If a model is given as well, the file contains no queries or no gallery, or identities are unknown.
    """
    if cfg.ckpt_path is not None or cfg.weights is not None:
        raise ValueError(f"features={cfg.features} already contains embeddings: omit ckpt_path and weights.")
    query, gallery = load_features(cfg)
    options = evaluation(cfg)
    if options.pop("flip"):
        raise ValueError(
            "eval.flip=true cannot be used with features: run `reidlit extract` with extractor.flip=true instead."
        )
    protocol = protocol_line(options, None)
    options["postprocess"] = [build(step) for step in options["postprocess"]]
    labels = (query.pid, gallery.pid, query.camid, gallery.camid)
    scores = evaluate(query.embedding, gallery.embedding, *labels, **options)

    name, folder = Path(cfg.features).stem, current_run()
    columns = dict(scores.per_query())
    if len(columns["ap"]) == len(query):  # with pooled queries, a row is not an image
        columns = {"path": query.path, "pid": query.pid, "camid": query.camid} | columns
    write_table(folder.per_query_file, {"dataset": np.full(len(columns["ap"]), name)} | columns)
    result = RunResult((TestResult("test", name, retrieval_metrics(scores, protocol)),))
    folder.save_result(result)
    print_results(result)
    announce(folder)
    return scores.mAP


def load_features(cfg: DictConfig) -> tuple[Features, Features]:
    """Load the queries and the gallery of a features file, and pool the frames of tracklets.

    Raises:
        ValueError: If frames are not pooled, or the file contains no queries or no gallery.
    """
    features = Features.load(cfg.features)
    if cfg.temporal is not None:
        features = features.pooled(cfg.temporal)
    elif len(features) and features.tracklet.max() >= 0:
        raise ValueError(
            f"features={cfg.features} contains single frames of tracklets: add temporal=average or temporal=max."
        )
    query, gallery = features.of_split("query"), features.of_split("gallery")
    if not len(query) or not len(gallery):
        raise ValueError(
            f"features={cfg.features} contains {len(query)} queries and {len(gallery)} gallery images, but both are "
            "needed. Run `reidlit extract` on a dataset with splits=[query,gallery]."
        )
    return query, gallery
