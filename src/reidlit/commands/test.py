"""`reidlit test`: score a checkpoint or a weight file on a dataset."""

from pathlib import Path

import pytorch_lightning as pl
from omegaconf import DictConfig

from reidlit.commands import attributes, common
from reidlit.commands._data import build_datamodule
from reidlit.commands._stored_features import test_features
from reidlit.engine.reid import ReIDModule
from reidlit.models.weights import load_weights, read_checkpoint
from reidlit.spec import TARGET, locate


def run(cfg: DictConfig) -> float:
    """Test as configured.

    Returns:
        The mAP on the first test set.

    Raises:
        ValueError: if neither or both of `ckpt_path` and `weights` are given, or they do not hold a whole model.
    """
    if cfg.features is not None:
        return test_features(cfg)
    if attributes.are_tested(cfg):
        return attributes.test(cfg)
    if cfg.temporal is not None:
        raise ValueError(f"temporal={cfg.temporal} pools the frames of features=; of a model it is model/temporal=.")
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module = _trained(cfg)
    if not common.is_given("data.height", "data.width"):
        cfg.data.height, cfg.data.width = module.hparams["image_size"]
    datamodule = build_datamodule(cfg)
    datamodule.prepare_data()
    datamodule.setup("test")
    if not datamodule.test_sets:
        raise ValueError(f"data={datamodule.name} has no test images: name a dataset that has.")
    for notice in dict.fromkeys(part.notice for part in datamodule.targets if part.notice):
        common.say(notice)
    trainer = common.build_trainer(cfg)
    metrics = common.test(trainer, module, datamodule)
    if trainer.is_global_zero:
        path = common.checkpoint_path(cfg.ckpt_path)
        if not cfg.engine.get("ensemble"):  # whose thresholds are not those of the network that a checkpoint deploys
            common.calibrate(metrics, module, Path(path) if path and cfg.calibrate else None)
        common.publish(metrics, trainer, module, datamodule)
    return next(float(value) for name, value in metrics.items() if name.endswith("/mAP"))


def _trained(cfg: DictConfig) -> ReIDModule:
    """The module with trained weights and the evaluation that is asked for."""
    if (cfg.ckpt_path is None) == (cfg.weights is None):
        raise ValueError(
            "give ckpt_path=<file.ckpt> or ckpt_path=last for a run of reidlit train, weights=<file.pth> with model=<name>, or "
            "features=<file> of reidlit extract."
        )
    evaluation = common.evaluation(cfg)
    path = common.checkpoint_path(cfg.ckpt_path)
    if path is not None:
        if "hyper_parameters" not in (read_checkpoint(path) or {}):
            raise ValueError(
                f"ckpt_path={path} is no checkpoint of reidlit train. A weight file is tested with weights={path} model=<name>."
            )
        # By default the deployed network alone, whatever it was trained with.
        kind: type[ReIDModule] = locate(cfg.engine[TARGET])
        ensemble = {"ensemble": cfg.engine.ensemble} if "ensemble" in cfg.engine else {}
        return kind.load_from_checkpoint(path, map_location="cpu", evaluation=evaluation, **ensemble)
    engine = common.plain(cfg.engine)
    if locate(engine.pop(TARGET)) is not ReIDModule:
        raise ValueError(f"weights={cfg.weights}: a weight file holds one network. Leave engine=... out to test it.")
    # The classifier plays no part in a test, so its size is free.
    module = ReIDModule(
        model=common.plain(cfg.model),
        pids=[0],
        image_size=[cfg.data.height, cfg.data.width],
        evaluation=evaluation,
        **engine,
    )
    report = load_weights(module.model, cfg.weights)
    common.say(f"weights={cfg.weights}: {report}")
    if not report.embeds:
        raise ValueError(
            f"weights={cfg.weights} does not hold all that makes an embedding, so its scores would mean nothing.\n{report}"
        )
    return module
