"""The LightningModule that a configuration describes, new or from a checkpoint."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reidlit.commands._errors import wrong_types_named
from reidlit.commands._settings import evaluation, plain
from reidlit.config import option, options
from reidlit.console import say
from reidlit.data.datamodule import ReIDDataModule
from reidlit.engine.attributes import AttributeModule
from reidlit.engine.base import AnyModule, NetworkModule, without_pretraining
from reidlit.engine.joint_attributes import JointAttributeModule
from reidlit.engine.reid import ReIDModule
from reidlit.models.weights import load_weights, read_checkpoint
from reidlit.spec import TARGET, build, check_saved, locate


def module_class(cfg: DictConfig) -> type[AnyModule]:
    """Return the LightningModule that `engine` names.

    Raises:
        ValueError: If it is not a subclass of `NetworkModule`.
    """
    target = locate(cfg.engine[TARGET])
    if not (isinstance(target, type) and issubclass(target, NetworkModule)):
        raise ValueError(
            f"engine._target_={cfg.engine[TARGET]} must be a subclass of reidlit.engine.base.NetworkModule."
        )
    return target


@wrong_types_named()
def build_module(cfg: DictConfig, datamodule: ReIDDataModule) -> AnyModule:
    """Build the module to be trained on a dataset that is set up for training."""
    model, engine = plain(cfg.model), plain(cfg.engine)
    if "peers" in engine:
        engine["peers"] = [_peer(entry, model) for entry in engine["peers"]]
    module: AnyModule = build(
        engine,
        model=model,
        loss=plain(cfg.loss),
        optimizer=plain(cfg.optimizer),
        scheduler=plain(cfg.scheduler),
        image_size=[cfg.data.height, cfg.data.width],
        **module_class(cfg).data_options(datamodule, evaluation(cfg)),
    )
    return module


def load_tested_module(cfg: DictConfig, path: str | None) -> AnyModule:
    """Load the module to be tested, from a checkpoint or a weight file, with the evaluation that is configured.

    Args:
        cfg: Configuration of `reidlit test`.
        path: The checkpoint, or None for `weights`.

    Raises:
        ValueError: If the checkpoint does not fit `engine`, or the weight file lacks a part of the model.
    """
    if path is None:
        return _module_of_weights(cfg)
    if "hyper_parameters" not in (read_checkpoint(path) or {}):
        raise ValueError(
            f"ckpt_path={path} is not a checkpoint of reidlit train. A weight file is tested with weights={path} model=<name>."
        )
    if attribute_class(path) is AttributeModule:
        return AttributeModule.load_from_checkpoint(path, map_location="cpu")
    kind = module_class(cfg)
    if issubclass(kind, AttributeModule):
        raise ValueError(f"ckpt_path={cfg.ckpt_path} was not trained with engine=attributes and cannot be used here.")
    # By default the deployed network alone, whatever it was trained with.
    changes = {"ensemble": cfg.engine.ensemble} if "ensemble" in cfg.engine else {}
    return kind.load_from_checkpoint(path, map_location="cpu", evaluation=evaluation(cfg), **changes)


def load_attribute_module(path: str) -> AttributeModule | JointAttributeModule:
    """Load a checkpoint of a module that predicts attributes.

    Raises:
        ValueError: If it is not such a checkpoint, or asks to build what is not trusted.
    """
    kind = attribute_class(path)
    if kind is None:
        raise ValueError(
            f"ckpt_path={path} knows no attributes: give a checkpoint of reidlit train engine=attributes or "
            "engine=joint_attributes."
        )
    return kind.load_from_checkpoint(path, map_location="cpu")


def attribute_class(path: str) -> type[AttributeModule | JointAttributeModule] | None:
    """Return the class of a checkpoint that predicts attributes, or None; nothing in the file is built."""
    content = read_checkpoint(path)
    settings = content.get("hyper_parameters") if isinstance(content, Mapping) else None
    if not isinstance(settings, Mapping) or not settings.get("attributes"):
        return None
    check_saved(settings, path)
    return JointAttributeModule if "pids" in settings else AttributeModule


@wrong_types_named()
def initialize(module: AnyModule, cfg: DictConfig) -> None:
    """Load `weights` into a new module, and check that `ckpt_path`, from which it will be resumed, fits it.

    Raises:
        ValueError: If either does not fit.
    """
    if cfg.ckpt_path:
        _check_same_run(cfg.ckpt_path, module)
    if cfg.weights:
        say(f"weights={cfg.weights}: {module.start_from(cfg.weights)}")


def _module_of_weights(cfg: DictConfig) -> ReIDModule:
    engine = plain(cfg.engine)
    if locate(engine.pop(TARGET)) is not ReIDModule:
        raise ValueError(f"weights={cfg.weights}: a weight file contains one network. Leave engine=... out to test it.")
    # The classifier plays no part in a test, so its size is free.
    module = ReIDModule(
        model=plain(cfg.model),
        pids=[0],
        image_size=[cfg.data.height, cfg.data.width],
        evaluation=evaluation(cfg),
        **engine,
    )
    report = load_weights(module.model, cfg.weights)
    say(f"weights={cfg.weights}: {report}")
    if not report.embeds:
        raise ValueError(
            f"weights={cfg.weights} does not contain everything that makes an embedding, so its scores would mean nothing.\n"
            f"{report}"
        )
    return module


def _check_same_run(path: str, module: AnyModule) -> None:
    """Compare what a checkpoint was trained with, which otherwise fails with pages of tensor names."""
    saved = (read_checkpoint(path) or {}).get("hyper_parameters", {})
    for name, difference, settings in module.resumed_with:
        if saved.get(name) != _comparable(name, module.hparams[name]):
            raise ValueError(
                f"ckpt_path={path} was trained with {difference}, so it cannot be resumed here. Give the {settings} of that run, "
                "or start a new run from its weights with weights=<the same file>."
            )


def _comparable(name: str, value: Any) -> Any:
    """Return a hyperparameter as a checkpoint stores it."""
    if name == "model":
        return without_pretraining(value)
    return [without_pretraining(peer) for peer in value] if name == "peers" else value


def _peer(entry: str | Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of an entry of `engine.peers`: a spec itself, `osnet_x0_5`, or `{osnet_x0_5: {pretrained: true}}`.

    Losses read the logits of all networks alike, so it gets the classifier of `model`.

    Raises:
        ValueError: If it is none of these.
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
