"""What `reidlit train` and `reidlit test` do for attributes instead of identities."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from reidlit.commands import common
from reidlit.commands._attribute_results import FIGURES, figures, print_attributes
from reidlit.commands._data import build_datamodule
from reidlit.commands._environment import environment
from reidlit.commands._errors import interruptible, wrong_kinds_named
from reidlit.data.attribute_data import AttributeDataModule
from reidlit.engine.attributes import SCORES, AttributeModule
from reidlit.engine.base import without_fetching
from reidlit.engine.joint_attributes import JointAttributeModule
from reidlit.engine.loggers.factory import finish
from reidlit.files import write_json
from reidlit.models.weights import read_checkpoint
from reidlit.spec import TARGET, build, check_saved, locate

KnowsAttributes: TypeAlias = AttributeModule | JointAttributeModule


def are_trained(cfg: DictConfig) -> bool:
    """Whether a training is of attributes alone.

    Raises:
        ValueError: if the engine is for the one, and the data are of the other.
    """
    engine = issubclass(locate(cfg.engine[TARGET]), AttributeModule)
    data = issubclass(locate(cfg.data[TARGET]), AttributeDataModule)
    if data and not engine:
        raise ValueError(f"{_name()} has attributes and no identities: add engine=attributes.")
    if engine and not data:
        raise ValueError(f"{_name()} has identities and no attributes: engine=attributes is for {_options()}.")
    return engine


def are_tested(cfg: DictConfig) -> bool:
    """Whether a test is of attributes alone, which the checkpoint tells.

    Raises:
        ValueError: if the data have no labels for what the checkpoint knows.
    """
    engine = issubclass(locate(cfg.engine[TARGET]), AttributeModule)
    data = issubclass(locate(cfg.data[TARGET]), AttributeDataModule)
    if cfg.ckpt_path is not None and cfg.weights is not None:
        return False  # which a test of identities refuses
    path = common.checkpoint_path(cfg.ckpt_path)
    if path is None:
        if engine or data:
            raise ValueError("Attributes are tested with ckpt_path=<file.ckpt> or ckpt_path=last.")
        return False
    model = _kind(path) is AttributeModule
    if model and not data:
        raise ValueError(f"ckpt_path={cfg.ckpt_path} knows attributes, which {_name()} has not: give {_options()}.")
    if (data or engine) and not model:
        raise ValueError(f"ckpt_path={cfg.ckpt_path} was not trained with engine=attributes, so it is no use here.")
    return model


def train(cfg: DictConfig) -> float | None:
    """Train as configured, and test the checkpoint that is best on the validation split.

    Returns:
        The mA that a sweep maximises: on the validation split if there is one, else on the test split.
    """
    trainer, module, datamodule = _built(cfg)
    metrics: dict[str, Any] = {}
    if cfg.score_untrained:
        scores = _test(common.build_trainer(cfg, bare=True), module, datamodule)
        metrics |= {name.replace("test/", "untrained/", 1): value for name, value in scores.items()}
        module.scores.clear()
    way_out = f"The last checkpoint is in {common.run_dir() / 'checkpoints'}; add ckpt_path=last to the same command."
    with interruptible(trainer, "train", way_out):
        trainer.fit(module, datamodule, ckpt_path=cfg.ckpt_path)
    metrics |= {f"val/{name}": value for name, value in _choose(trainer, module).items()}
    if cfg.test and not cfg.trainer.fast_dev_run:
        datamodule.setup("test")
        if datamodule.test_sets:
            metrics |= _test(trainer, module, datamodule)
        else:
            common.say(f"data={datamodule.name} has no test images.")
    _publish(metrics, trainer)
    finish(trainer.loggers)
    targets = [value for name, value in metrics.items() if name in ("val/mA", f"test/{datamodule.name}/mA")]
    return targets[0] if targets else None


def test(cfg: DictConfig) -> float:
    """Test a checkpoint as configured.

    Returns:
        The mA on the test split.

    Raises:
        ValueError: if the data have no test split, or none of the checkpoint's attributes.
    """
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module = load_module(common.checkpoint_path(cfg.ckpt_path) or "")
    if not isinstance(module, AttributeModule):
        raise TypeError("unreachable: joint checkpoints are tested as those of identities")
    if not common.is_given("data.height", "data.width"):
        cfg.data.height, cfg.data.width = module.hparams["image_size"]
    datamodule = _datamodule(cfg)
    datamodule.names = module.hparams["attributes"]
    if datamodule.missing:
        common.say(f"not tested, since data={datamodule.name} has no labels: {', '.join(datamodule.missing)}")
    datamodule.setup("test")
    if not datamodule.test_sets:
        raise ValueError(f"data={datamodule.name} has no test images: name a dataset that has.")
    trainer = _trainer(cfg)
    metrics = _test(trainer, module, datamodule)
    _publish(metrics, trainer)
    return float(metrics[f"test/{datamodule.name}/mA"])


def load_module(path: str) -> KnowsAttributes:
    """The module of a checkpoint that knows attributes.

    Raises:
        ValueError: if it is no checkpoint, knows none, or asks to build what is not trusted.
    """
    kind = _kind(path)
    if kind is None:
        raise ValueError(
            f"ckpt_path={path} knows no attributes: give a checkpoint of reidlit train engine=attributes or "
            "engine=joint_attributes."
        )
    return kind.load_from_checkpoint(path, map_location="cpu")


def _kind(path: str) -> type[KnowsAttributes] | None:
    """What a checkpoint is of, as far as attributes are concerned; nothing in it is built."""
    content = read_checkpoint(path)
    settings = content.get("hyper_parameters") if isinstance(content, Mapping) else None
    if not isinstance(settings, Mapping) or not settings.get("attributes"):
        return None
    check_saved(settings, path)
    return JointAttributeModule if "pids" in settings else AttributeModule


@wrong_kinds_named()
def _built(cfg: DictConfig) -> tuple[pl.Trainer, AttributeModule, AttributeDataModule]:
    """What is trained, and on what."""
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    datamodule = _datamodule(cfg)
    datamodule.setup("fit")
    common.say(_sizes(datamodule))
    # Short epochs would otherwise pass without a line in the logs.
    cfg.trainer.log_every_n_steps = min(cfg.trainer.log_every_n_steps, len(datamodule.train_dataloader()))
    trainer = _trainer(cfg)
    common.refuse_parallel_sweep(trainer)
    _check_choice(trainer, datamodule)
    module = _build_module(cfg, datamodule)
    if cfg.ckpt_path:
        _check_same_run(cfg.ckpt_path, module)
        common.say(f"resuming {cfg.ckpt_path}")
    if cfg.weights:
        common.say(f"weights={cfg.weights}: {module.start_from(cfg.weights)}")
    for logger in trainer.loggers:
        logger.log_hyperparams(common.plain(cfg))
    return trainer, module, datamodule


def _datamodule(cfg: DictConfig) -> AttributeDataModule:
    datamodule = build_datamodule(cfg)
    if not isinstance(datamodule, AttributeDataModule):
        raise TypeError("unreachable: the class was looked at before")
    datamodule.prepare_data()
    return datamodule


def _build_module(cfg: DictConfig, datamodule: AttributeDataModule) -> AttributeModule:
    module: AttributeModule = build(
        common.plain(cfg.engine),
        model=common.plain(cfg.model),
        attributes=list(datamodule.names),
        ratios=datamodule.ratios,
        loss=common.plain(cfg.loss),
        optimizer=common.plain(cfg.optimizer),
        scheduler=common.plain(cfg.scheduler),
        image_size=[cfg.data.height, cfg.data.width],
    )
    return module


def _trainer(cfg: DictConfig) -> pl.Trainer:
    """Without what shows ranked lists, since nothing is searched for."""
    for name in ("ranked_lists", "tracked_results"):
        if name in cfg.callbacks:
            cfg.callbacks[name] = None
    return common.build_trainer(cfg)


def _check_choice(trainer: pl.Trainer, datamodule: AttributeDataModule) -> None:
    """Refuse to choose by a score that is never computed.

    Raises:
        ValueError: if a checkpoint callback monitors one.
    """
    for monitor in filter(None, (getattr(each, "monitor", None) for each in trainer.checkpoint_callbacks)):
        known = [f"val/{name}" for name in FIGURES]
        if str(monitor).startswith("val/") and monitor not in known:
            raise ValueError(f"A checkpoint is chosen by {monitor}, which attributes do not have; there are {known}.")
        if str(monitor).startswith("val/") and datamodule.val is None:
            raise ValueError(
                f"data={datamodule.name} has no validation split to choose a checkpoint by {monitor}. Give it one, such as "
                "data.val_fraction=0.1 of data=attribute_csv, or keep the last with callbacks.best=null."
            )


def _check_same_run(path: str, module: AttributeModule) -> None:
    """Compare what a checkpoint was trained with.

    Raises:
        ValueError: if its model or its attributes are others.
    """
    then = (read_checkpoint(path) or {}).get("hyper_parameters", {})
    now = {"model": without_fetching(module.hparams["model"]), "attributes": module.hparams["attributes"]}
    for name, value in now.items():
        if then.get(name) != value:
            raise ValueError(
                f"ckpt_path={path} was trained with another {name}, so it cannot be resumed here. Give the settings of that run, "
                "or start a new run from its weights with weights=<the same file>."
            )


def _choose(trainer: pl.Trainer, module: AttributeModule) -> dict[str, Any]:
    """Take the weights of the best checkpoint, if one was chosen, and return its scores on the validation split."""
    paths = [each.best_model_path for each in trainer.checkpoint_callbacks if getattr(each, "monitor", None)]  # type: ignore[attr-defined]  # those with a monitor have it
    if not paths or not Path(paths[0]).is_file():
        return figures(module.scores["val"].as_dict()) if "val" in module.scores else {}
    # Not by the Trainer, whose averaging callback would take the weights before the average.
    content = read_checkpoint(paths[0])
    module.load_state_dict(content["state_dict"])
    common.say(f"best on the validation split: epoch {content['epoch'] + 1}, mA {100 * content[SCORES]['mA']:.2f} %")
    return figures(content[SCORES])


def _test(trainer: pl.Trainer, module: AttributeModule, datamodule: AttributeDataModule) -> dict[str, Any]:
    """`test/<dataset>/<name>` -> fraction or count, and None for what cannot be measured."""
    with interruptible(trainer, "test", "Nothing was written; run the same command again."):
        trainer.test(module, datamodule, verbose=False)
    names = module.hparams["attributes"]
    return {
        f"{prefix}/{name}": value
        for prefix, scores in module.scores.items()
        if prefix.startswith("test/")
        for name, value in figures(
            scores.as_dict() | {"num_images": scores.num_images} | scores.by_attribute(names)
        ).items()
    }


def _publish(metrics: Mapping[str, Any], trainer: pl.Trainer) -> None:
    """Write `metrics.json` and `environment.json`, print the results and say where the files are."""
    if not trainer.is_global_zero:
        return
    write_json(common.run_dir() / "environment.json", environment(trainer))
    write_json(common.run_dir() / "metrics.json", metrics)
    print_attributes(metrics)
    best = common.run_dir() / "checkpoints" / "best.ckpt"
    for name, path in [*common.outputs(), *([("best checkpoint", best)] if best.is_file() else [])]:
        common.say(f"{name}: {path}")


def _sizes(datamodule: AttributeDataModule) -> str:
    counts = {split: len(datamodule.samples(split)) for split in datamodule.splits}
    told = ", ".join(f"{count:,} images for {split}" for split, count in counts.items() if count)
    return f"{datamodule.name}: {len(datamodule.names)} attributes, {told}"


def _name() -> str:
    return f"data={HydraConfig.get().runtime.choices['data']}"


def _options() -> str:
    return "data=pa100k, data=attribute_csv or data=synthetic_attributes"
