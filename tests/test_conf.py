"""Every option of conf/ composes, names what exists, and gives it arguments that it takes."""

import datetime
import inspect
from itertools import permutations
from typing import Unpack, get_args, get_origin

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, ListConfig, OmegaConf

from helpers.slow import FAST_MODELS, mostly_slow
from reidlit.config import CONFIG_DIR, option, options
from reidlit.spec import locate

INCLUDED = ("loading", "extractor")  # by others, which are composed below
GROUPS = sorted(
    p.name for p in CONFIG_DIR.iterdir() if p.is_dir() and list(p.glob("*.yaml")) and p.name not in INCLUDED
)
CASES = [f"{group}={name}" for group in GROUPS for name in options(group)]
FAST = {case for case in CASES if not case.startswith("model=")} | {f"model={name}" for name in FAST_MODELS}
PARTS = [
    f"model/{part}={name}" for part in ("pool", "temporal", "neck", "classifier") for name in options(f"model/{part}")
]
PACKAGE = {"averaging": "callbacks"}  # where a group's options go, if not under its own name
# Given by the code that builds the object, or read by it before.
RUNTIME = {
    "model": {"num_classes", "in_features"},
    "optimizer": {"params", "new_layers", "base_lr_mult", "layer_decay", "decay_norms"},
    "scheduler": {"warmup_epochs", "warmup_factor", "interval"},
    "data": {"train_transform", "test_transform", "sampler", "seed", "height", "width"},
    "sampler": {"samples", "batch_size", "seed", "rank", "world_size"},
}


@pytest.fixture(scope="module", autouse=True)
def _hydra():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        yield


def targets(node):
    """Every mapping with a `_target_` below a node."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield node
        for key in node:
            if not OmegaConf.is_interpolation(node, key) and not OmegaConf.is_missing(node, key):
                yield from targets(node[key])
    elif isinstance(node, ListConfig):
        for child in node:
            yield from targets(child)


@pytest.mark.parametrize("case", mostly_slow(CASES, FAST))
def test_option_composes_and_fits(case):
    group = case.split("=")[0]
    command = "train"
    cfg = compose(command, overrides=[case])
    nodes = list(targets(cfg if group == "experiment" else cfg[PACKAGE.get(group, group)]))
    assert nodes or group in ("eval", "engine", "experiment")
    for node in nodes:
        target = locate(node["_target_"])
        known = accepted(target)
        given = {str(key) for key in node} - {"_target_", "_partial_"}
        owner = next((name for name in RUNTIME if any(node is each for each in targets(cfg[name]))), group)
        unknown = given - known - RUNTIME.get(owner, set()) if known is not None else set()
        assert not unknown, f"{node['_target_']} does not take {unknown}"


def accepted(target):
    """The keyword arguments of a callable, or `None` where a foreign one takes any.

    Typed keyword arguments, such as `**loading: Unpack[Loading]`, count with the keys of their TypedDict; nothing else of ours
    swallows arguments.
    """
    names = set()
    if target is datetime.timedelta:  # written in C, without a signature
        return {"minutes"}
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            names.add(name)
        elif not target.__module__.startswith("reidlit."):
            return None
        elif get_origin(parameter.annotation) is Unpack:  # a TypedDict of shared options
            names |= shared_options(target)
        else:  # a module without arguments of its own shows those of nn.Module
            assert isinstance(target, type), f"{target} swallows unknown arguments"
            assert target.__init__ is torch.nn.Module.__init__, f"{target} swallows unknown arguments"
    return names


def shared_options(target):
    """The arguments of the constructors of a class and of its bases, with the keys of the TypedDicts that they unpack."""
    ours = [parent for parent in target.__mro__ if parent.__module__.startswith("reidlit.")]
    constructors = [vars(parent)["__init__"] for parent in ours if "__init__" in vars(parent)]
    parameters = [each for init in constructors for each in inspect.signature(init).parameters.values()]
    dicts = [get_args(each.annotation)[0] for each in parameters if get_origin(each.annotation) is Unpack]
    return {each.name for each in parameters} | {key for keys in dicts for key in keys.__annotations__}


def test_attributes_bring_their_data_loss_and_choice_unless_told_otherwise():
    cfg = compose("train", ["engine=attributes"])
    assert cfg.data._target_.endswith("PA100K")
    assert cfg.loss.losses.bce._target_.endswith("AttributeBCE")
    assert cfg.callbacks.best.monitor == "val/mA"
    assert next(iter(cfg.callbacks)) == "best"  # before last.ckpt, which must know the best score so far
    assert "last" in cfg.callbacks
    cfg = compose("train", ["engine=attributes", "data=synthetic_attributes", "callbacks.best=null"])
    assert cfg.data._target_.endswith("SyntheticAttributes")
    assert cfg.callbacks.best is None


def test_triplet_brings_identity_batches_unless_told_otherwise():
    assert compose("train", ["loss=triplet"]).sampler._target_.endswith("IdentityBatches")
    assert compose("train", ["loss=softmax_triplet"]).sampler._target_.endswith("IdentityBatches")
    assert compose("train", ["loss=softmax_triplet", "sampler=random"]).sampler._target_.endswith("RandomBatches")
    assert compose("train").sampler._target_.endswith("RandomBatches")


@pytest.mark.parametrize("case", PARTS)
def test_part_of_a_model_composes_and_fits(case):
    part, name = case.removeprefix("model/").split("=")
    node = compose("train", ["model=resnet18", case]).model[part]
    assert node == option(f"model/{part}", name)
    given = {str(key) for key in node} - {"_target_"}
    assert given <= accepted(locate(node["_target_"]))


@pytest.mark.parametrize("loss", ["arcface", "cosface", "am_softmax", "circle_softmax"])
def test_margin_losses_bring_the_cosine_classifier_unless_told_otherwise(loss):
    def classifier(*overrides):
        return compose("train", list(overrides)).model.classifier._target_.rpartition(".")[2]

    assert classifier(f"loss={loss}") == "CosineClassifier"
    assert classifier(f"loss={loss}", "experiment=osnet_x1_0") == "CosineClassifier"
    assert classifier(f"loss={loss}", "model/classifier=linear") == "LinearClassifier"
    assert classifier("model=resnet50") == "LinearClassifier"


@pytest.mark.parametrize("overrides", [*permutations(["loss=arcface", "model=resnet50", "model/neck=bnneck"])])
def test_parts_compose_in_any_order(overrides):
    model = compose("train", list(overrides)).model
    assert model.backbone.name.startswith("resnet50")
    assert [model[part]._target_.rpartition(".")[2] for part in ("pool", "neck", "classifier")] == [
        "AveragePool",
        "BNNeck",
        "CosineClassifier",
    ]


def test_classifier_of_a_weight_file_can_be_chosen_for_a_test():
    model = compose("test", ["model=resnet50", "model/classifier=cosine"]).model
    assert model.classifier._target_.endswith("CosineClassifier")


def test_each_command_composes():
    assert compose("test").weights is None
    assert compose("prepare").archive is None
    assert compose("doctor").decode is True
    assert compose("export").format == "onnx"
    assert compose("verify").threshold is None
    assert compose("predict").threshold == 0.5
    assert compose("search").top_k == 10
    assert compose("visualize").method == "auto"
    given = {str(key) for key in compose("extract").extractor}
    assert given < accepted(locate("reidlit.FeatureExtractor"))
