"""Construction of the LightningModule that a configuration describes, new or from a checkpoint."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reidlit.commands._errors import wrong_types_named
from reidlit.commands._resume import check_resumed, recorded_settings
from reidlit.commands._settings import evaluation, plain
from reidlit.config import option, options
from reidlit.console import say
from reidlit.data.datamodule import ReIDDataModule
from reidlit.engine.attributes import AttributeModule
from reidlit.engine.base import AnyModule, NetworkModule
from reidlit.engine.joint_attributes import JointAttributeModule
from reidlit.engine.reid import ReIDModule
from reidlit.models.weights import load_weights, read_settings
from reidlit.spec import TARGET, build, check_saved, locate


def module_class(cfg: DictConfig) -> type[AnyModule]:
    """Return the LightningModule class that `engine` names.

    Raises:
        ValueError: If it is not a subclass of `NetworkModule`.
    """
    target = locate(cfg.engine[TARGET])
    if not (isinstance(target, type) and issubclass(target, NetworkModule)):
        raise ValueError(
            f"engine._target_={cfg.engine[TARGET]} is invalid: must be a subclass of reidlit.engine.base.NetworkModule."
        )
    return target


@wrong_types_named()
def build_module(cfg: DictConfig, datamodule: ReIDDataModule) -> AnyModule:
    """Build the module for training; `datamodule.setup("fit")` must have been called."""
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
    module.run_settings = recorded_settings(cfg)
    return module


def load_tested_module(cfg: DictConfig, path: str | None) -> AnyModule:
    """Load the module to be tested from a checkpoint or a weight file, with the configured evaluation.

    Args:
        cfg: Configuration of `reidlit test`.
        path: Checkpoint, or None for the weight file `weights`.

    Raises:
        ValueError: If the checkpoint does not fit `engine`, or layers of the embedding are missing in the weight file.
    """
    if path is None:
        return _module_of_weights(cfg)
    if "hyper_parameters" not in read_settings(path):
        raise ValueError(
            f"ckpt_path={path} is not a checkpoint of reidlit train. Test a weight file with weights={path} "
            "model=<name>."
        )
    if attribute_class(path) is AttributeModule:
        return AttributeModule.load_from_checkpoint(path, map_location="cpu")
    module_type = module_class(cfg)
    if issubclass(module_type, AttributeModule):
        raise ValueError(f"ckpt_path={cfg.ckpt_path} was not trained with engine=attributes: omit engine=attributes.")
    # By default only the deployed network is tested, even if it was trained with peers.
    changes = {"ensemble": cfg.engine.ensemble} if "ensemble" in cfg.engine else {}
    return module_type.load_from_checkpoint(path, map_location="cpu", evaluation=evaluation(cfg), **changes)


def load_attribute_module(path: str) -> AttributeModule | JointAttributeModule:
    """Load a checkpoint of a module that predicts attributes.

    Raises:
        ValueError: If the checkpoint does not predict attributes, or names an untrusted class.
    """
    module_type = attribute_class(path)
    if module_type is None:
        raise ValueError(
            f"ckpt_path={path} does not predict attributes: give a checkpoint trained with engine=attributes or "
            "engine=joint_attributes."
        )
    return module_type.load_from_checkpoint(path, map_location="cpu")


def attribute_class(path: str) -> type[AttributeModule | JointAttributeModule] | None:
    """Return the class of an attribute checkpoint, or None for other checkpoints; builds no object of the file."""
    settings = read_settings(path).get("hyper_parameters")
    if not isinstance(settings, Mapping) or not settings.get("attributes"):
        return None
    check_saved(settings, path)
    return JointAttributeModule if "pids" in settings else AttributeModule


@wrong_types_named()
def initialize(module: AnyModule, cfg: DictConfig) -> None:
    """Load `weights` into a new module, and check that the module can resume `ckpt_path`.

    Raises:
        ValueError: If one of the files does not fit the module.
    """
    if cfg.ckpt_path:
        check_resumed(cfg.ckpt_path, module)
    if cfg.weights:
        say(f"weights={cfg.weights}: {module.start_from(cfg.weights)}")


def _module_of_weights(cfg: DictConfig) -> ReIDModule:
    engine = plain(cfg.engine)
    if locate(engine.pop(TARGET)) is not ReIDModule:
        raise ValueError(
            f"weights={cfg.weights} contains a single network, so it cannot be tested with this engine: omit engine."
        )
    # The test does not use the classifier, so the number of identities does not matter.
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
            f"weights={cfg.weights} does not contain all layers of the embedding, so its scores would be meaningless. "
            f"Check model.\n{report}"
        )
    return module


def _peer(entry: str | Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of an entry of `engine.peers`: a spec, `osnet_x0_5`, or `{osnet_x0_5: {pretrained: true}}`.

    A peer gets the classifier of `model`, because the losses use the logits of all networks.

    Raises:
        ValueError: If the entry has another form, or names an unknown model or option.
    """
    if isinstance(entry, Mapping) and TARGET in entry:
        return dict(entry)
    if not isinstance(entry, str) and len(entry) != 1:
        raise ValueError(f"engine.peers contains {entry}: must be a model name, or one model name with its options.")
    name, changes = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
    if name not in (choices := options("model")):
        raise ValueError(f"engine.peers contains {name!r}, which is not one of the models {', '.join(choices)}.")
    spec = option("model", name) | {"classifier": model["classifier"]}
    if unknown := sorted(set(changes) - set(spec)):
        raise ValueError(
            f"engine.peers is invalid: model={name} has no option {unknown}. Its options are {sorted(spec)}."
        )
    merged = OmegaConf.to_container(OmegaConf.merge(spec, changes))
    return {str(key): value for key, value in merged.items()} if isinstance(merged, dict) else spec
