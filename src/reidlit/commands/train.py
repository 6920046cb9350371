"""`reidlit train`: fit a model, test it, and leave checkpoints, metrics and ranked lists."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from reidlit.commands import attributes, common
from reidlit.commands._data import build_datamodule
from reidlit.commands._errors import interruptible, wrong_kinds_named
from reidlit.commands._sweep_folder import RESUME, score
from reidlit.config import option, options
from reidlit.data.datamodule import ReIDDataModule
from reidlit.engine.base import without_fetching
from reidlit.engine.loggers.factory import finish
from reidlit.engine.reid import ReIDModule
from reidlit.models.weights import read_checkpoint
from reidlit.spec import TARGET, build


def run(cfg: DictConfig) -> float | None:
    """Train as configured.

    Returns:
        The mAP that a sweep maximises: on the held-out identities if there are any, else on the first test set.
    """
    of_attributes = attributes.are_trained(cfg)
    cfg.ckpt_path = common.checkpoint_path(cfg.ckpt_path)  # loggers must know which file `last` is
    if of_attributes:
        return attributes.train(cfg)
    trainer, module, datamodule = _built(cfg)
    metrics: dict[str, Any] = {}
    if cfg.score_untrained:
        scores = common.test(common.build_trainer(cfg, bare=True), module, datamodule)
        metrics |= {name.replace("test/", "untrained/", 1): value for name, value in scores.items()}
        module.scores.clear()
    _fit(trainer, module, datamodule, cfg.ckpt_path)
    metrics |= {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    if cfg.test and not cfg.trainer.fast_dev_run:
        datamodule.setup("test")
        if datamodule.test_sets:
            metrics |= common.test(trainer, module, datamodule)
        else:
            common.say(
                f"data={datamodule.name} has no test images; data=multi trains on it and tests on another dataset."
            )
    if trainer.is_global_zero:
        if not cfg.engine.get("ensemble"):  # whose thresholds are not those of the network that a checkpoint deploys
            common.calibrate(metrics, module, common.run_dir() / "checkpoints" / "last.ckpt")
        common.publish(metrics, trainer, module, datamodule)
    finish(trainer.loggers)
    return score(metrics)


@wrong_kinds_named()
def _built(cfg: DictConfig) -> tuple[pl.Trainer, ReIDModule, ReIDDataModule]:
    """What is trained, and on what."""
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    datamodule = build_datamodule(cfg)
    datamodule.prepare_data()
    datamodule.setup("fit")
    common.say(common.sizes(datamodule))
    # Short epochs would otherwise pass without a line in the logs.
    cfg.trainer.log_every_n_steps = min(cfg.trainer.log_every_n_steps, len(datamodule.train_dataloader()))
    trainer = common.build_trainer(cfg)
    common.refuse_parallel_sweep(trainer)
    _refuse_best_of_nothing(trainer, datamodule)
    module = _build_module(cfg, datamodule.pids)
    if cfg.ckpt_path:
        _check_same_run(cfg.ckpt_path, module)
    if cfg.weights:
        common.say(f"weights={cfg.weights}: {module.start_from(cfg.weights)}")
    for logger in trainer.loggers:
        logger.log_hyperparams(common.plain(cfg))
    return trainer, module, datamodule


def _build_module(cfg: DictConfig, pids: list[int]) -> ReIDModule:
    model, engine = common.plain(cfg.model), common.plain(cfg.engine)
    if "peers" in engine:
        engine["peers"] = [_peer(entry, model) for entry in engine["peers"]]
    module: ReIDModule = build(
        engine,
        model=model,
        loss=common.plain(cfg.loss),
        optimizer=common.plain(cfg.optimizer),
        scheduler=common.plain(cfg.scheduler),
        pids=pids,
        image_size=[cfg.data.height, cfg.data.width],
        evaluation=common.evaluation(cfg),
    )
    return module


def _peer(entry: str | Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of an entry of `engine.peers`: itself one, or `osnet_x0_5`, or `{osnet_x0_5: {pretrained: true}}`.

    Losses read the logits of all networks alike, so it gets the classifier of `model`.

    Raises:
        ValueError: if it is none of these.
    """
    if isinstance(entry, Mapping) and TARGET in entry:
        return dict(entry)
    if not isinstance(entry, str) and len(entry) != 1:
        raise ValueError(f"engine.peers holds {entry}: give a name of model, or one name with its options.")
    name, changes = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
    if name not in (known := options("model")):
        raise ValueError(f"engine.peers names {name!r}, which is no option of model: {', '.join(known)}.")
    spec = option("model", name) | {"classifier": model["classifier"]}
    if unknown := sorted(set(changes) - set(spec)):
        raise ValueError(f"engine.peers: model={name} has no option {unknown}; it has {sorted(spec)}.")
    merged = OmegaConf.to_container(OmegaConf.merge(spec, changes))
    return {str(key): value for key, value in merged.items()} if isinstance(merged, dict) else spec


def _check_same_run(path: str, module: ReIDModule) -> None:
    """Compare what a checkpoint was trained with, which else fails with pages of tensor names.

    Raises:
        ValueError: if its networks or its identities are others.
    """
    then = (read_checkpoint(path) or {}).get("hyper_parameters", {})
    now = {"model": without_fetching(module.hparams["model"]), "pids": module.hparams["pids"]}
    if "peers" in module.hparams:
        now["peers"] = [without_fetching(peer) for peer in module.hparams["peers"]]
    for name, what, way in (
        ("model", "another model", "model="),
        ("pids", "other identities", "data= and seed="),
        ("peers", "other peers, or without any", "engine="),
    ):
        if then.get(name) != now.get(name):
            raise ValueError(
                f"ckpt_path={path} was trained with {what}, so it cannot be resumed here. Give the {way} of that run, or "
                "start a new run from its weights with weights=<the same file>."
            )


def _fit(trainer: pl.Trainer, module: ReIDModule, datamodule: ReIDDataModule, resumed: str | None) -> None:
    if resumed:
        common.say(f"resuming {resumed}")
    way_out = "add ckpt_path=last to the same command to go on from it."
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        way_out = f"go on with the sweep by reidlit train {RESUME}{HydraConfig.get().sweep.dir}"
    with interruptible(trainer, "train", f"The last checkpoint is in {common.run_dir() / 'checkpoints'}; {way_out}"):
        trainer.fit(module, datamodule, ckpt_path=resumed)


def _refuse_best_of_nothing(trainer: pl.Trainer, datamodule: ReIDDataModule) -> None:
    """Refuse to choose by a score that is never computed.

    Raises:
        ValueError: if a checkpoint callback monitors held-out identities and none are held out.
    """
    for callback in trainer.checkpoint_callbacks:
        if str(getattr(callback, "monitor", None)).startswith("val/") and datamodule.val is None:
            raise ValueError(
                "callbacks=best chooses by val/mAP, but data.val_fraction=0 holds no identities out: set it to 0.1, say."
            )
