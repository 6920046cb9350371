"""Every choice in conf/ composes, names an existing class, passes arguments that it accepts, and is described."""

import datetime
import inspect
import re
import shlex
from itertools import permutations
from typing import Unpack, get_args, get_origin

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, ListConfig, OmegaConf

from helpers.slow import FAST_MODELS, mostly_slow
from reidlit.cli import COMMANDS, _named
from reidlit.config import CONFIG_DIR, option, options
from reidlit.help.conf_reader import find_choices, find_groups, read_choice, read_command
from reidlit.spec import build, locate

INCLUDED = ("loading", "extractor")  # included by other files, which are composed below
GROUPS = sorted(
    p.name for p in CONFIG_DIR.iterdir() if p.is_dir() and list(p.glob("*.yaml")) and p.name not in INCLUDED
)
CASES = [f"{group}={name}" for group in GROUPS for name in options(group)]
FAST = {case for case in CASES if not case.startswith("model=")} | {f"model={name}" for name in FAST_MODELS}
NESTED = [
    f"model/{part}={name}" for part in ("pool", "temporal", "neck", "classifier") for name in options(f"model/{part}")
]
PACKAGE = {"averaging": "callbacks"}  # key of a group's options, if it is not the name of the group
# Arguments that the code adds, or removes before it builds the object.
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
    """Yield every mapping with a `_target_` below a node."""
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
def test_choice_composes_and_matches_the_signature(case):
    group = case.split("=")[0]
    command = "train"
    cfg = compose(command, overrides=[case])
    nodes = list(targets(cfg if group == "experiment" else cfg[PACKAGE.get(group, group)]))
    assert nodes or group in ("eval", "engine", "experiment")
    for node in nodes:
        target = locate(node["_target_"])
        allowed = accepted(target)
        arguments = {str(key) for key in node} - {"_target_", "_partial_"}
        owner = next((name for name in RUNTIME if any(node is each for each in targets(cfg[name]))), group)
        unknown = arguments - allowed - RUNTIME.get(owner, set()) if allowed is not None else set()
        assert not unknown, f"{node['_target_']} does not accept {unknown}"


def accepted(target):
    """Return the keyword arguments of a callable; None if a callable of another library accepts any.

    Typed keyword arguments, such as `**loading: Unpack[Loading]`, count as the keys of their TypedDict. No other callable of
    reidlit may accept arbitrary arguments.
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
        else:  # a module without a constructor has the signature of nn.Module
            assert isinstance(target, type), f"{target} accepts unknown arguments"
            assert target.__init__ is torch.nn.Module.__init__, f"{target} accepts unknown arguments"
    return names


def shared_options(target):
    """Return the arguments of the constructors of a class and its bases, with the keys of unpacked TypedDicts."""
    classes = [parent for parent in target.__mro__ if parent.__module__.startswith("reidlit.")]
    constructors = [vars(parent)["__init__"] for parent in classes if "__init__" in vars(parent)]
    parameters = [each for init in constructors for each in inspect.signature(init).parameters.values()]
    dicts = [get_args(each.annotation)[0] for each in parameters if get_origin(each.annotation) is Unpack]
    return {each.name for each in parameters} | {key for keys in dicts for key in keys.__annotations__}


def test_attributes_engine_selects_data_loss_and_checkpoint_unless_overridden():
    cfg = compose("train", ["engine=attributes"])
    assert cfg.data._target_.endswith("PA100K")
    assert cfg.loss.losses.bce._target_.endswith("AttributeBCE")
    assert cfg.callbacks.best.monitor == "val/mA"
    assert next(iter(cfg.callbacks)) == "best"  # before last.ckpt, which must contain the best score
    assert "last" in cfg.callbacks
    cfg = compose("train", ["engine=attributes", "data=synthetic_attributes", "callbacks.best=null"])
    assert cfg.data._target_.endswith("SyntheticAttributes")
    assert cfg.callbacks.best is None


def test_triplet_selects_the_identity_sampler_unless_overridden():
    assert compose("train", ["loss=triplet"]).sampler._target_.endswith("IdentityBatches")
    assert compose("train", ["loss=softmax_triplet"]).sampler._target_.endswith("IdentityBatches")
    assert compose("train", ["loss=softmax_triplet", "sampler=random"]).sampler._target_.endswith("RandomBatches")
    assert compose("train").sampler._target_.endswith("RandomBatches")


@pytest.mark.parametrize("case", NESTED)
def test_nested_choice_of_a_model_composes_and_matches_the_signature(case):
    part, name = case.removeprefix("model/").split("=")
    node = compose("train", ["model=resnet18", case]).model[part]
    assert node == option(f"model/{part}", name)
    arguments = {str(key) for key in node} - {"_target_"}
    assert arguments <= accepted(locate(node["_target_"]))


@pytest.mark.parametrize("loss", ["arcface", "cosface", "am_softmax", "circle_softmax"])
def test_margin_losses_select_the_cosine_classifier_unless_overridden(loss):
    def classifier(*overrides):
        return compose("train", list(overrides)).model.classifier._target_.rpartition(".")[2]

    assert classifier(f"loss={loss}") == "CosineClassifier"
    assert classifier(f"loss={loss}", "experiment=osnet_x1_0") == "CosineClassifier"
    assert classifier(f"loss={loss}", "model/classifier=linear") == "LinearClassifier"
    assert classifier("model=resnet50") == "LinearClassifier"


@pytest.mark.parametrize("overrides", [*permutations(["loss=arcface", "model=resnet50", "model/neck=bnneck"])])
def test_nested_choices_compose_in_any_order(overrides):
    model = compose("train", list(overrides)).model
    assert model.backbone.name.startswith("resnet50")
    assert [model[part]._target_.rpartition(".")[2] for part in ("pool", "neck", "classifier")] == [
        "AveragePool",
        "BNNeck",
        "CosineClassifier",
    ]


def test_classifier_can_be_selected_for_a_test():
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
    arguments = {str(key) for key in compose("extract").extractor}
    assert arguments < accepted(locate("reidlit.FeatureExtractor"))


EVERY_CHOICE = [(group, name) for group in find_groups() for name in find_choices(group)]
EXAMPLES = [
    *(example for name in COMMANDS for example in read_command(name).examples),
    *(example for choice in EVERY_CHOICE for example in read_choice(*choice).examples),
]


@pytest.mark.parametrize(("group", "name"), EVERY_CHOICE, ids=[f"{group}={name}" for group, name in EVERY_CHOICE])
def test_choice_and_its_options_are_described(group, name):
    choice = read_choice(group, name)
    assert_is_description(choice.summary, 90)
    if not choice.is_recipe:
        for described in choice.options:
            assert_is_description(described.meaning, 140)


@pytest.mark.parametrize("name", COMMANDS)
def test_command_and_its_options_are_described(name):
    command = read_command(name)
    assert_is_description(command.summary, 66)
    assert command.examples
    for described in (*command.options, *command.groups):
        assert_is_description(described.meaning, 140)


def assert_is_description(text, limit):
    """Check that a comment is one line that starts with a capital or a name, and has no period at the end."""
    assert text
    assert len(text) <= limit
    assert not text.endswith(".")
    assert not text[0].islower() or text.startswith(("iLIDS", "k-reciprocal ", "timm ", "torchvision "))


@pytest.mark.parametrize("name", mostly_slow(options("model"), FAST_MODELS))
def test_model_header_states_the_number_of_parameters(name):
    stated = re.search(r"([\d.]+) M params$", read_choice("model", name).summary)
    if name == "timm":
        assert stated is None
        return
    model = build(option("model", name), num_classes=1)
    parameters = sum(weight.numel() for key, weight in model.named_parameters() if not key.startswith("classifier."))
    assert stated[1] == f"{parameters / 1e6:.1f}"


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_composes(example):
    _, command, *arguments = shlex.split(example, comments=True)
    overrides = [item for item in _named(command, arguments) if not item.startswith("-")]
    first_values = [re.sub(r"^(model|seed)=(\w+),.*", r"\1=\2", item) for item in overrides]
    compose(command, [item for item in first_values if not re.match(r"hydra/|model=.*\*|optimizer.lr=tag", item)])
