"""Optimisers, parameter groups and schedules."""

import pytest
import timm.optim
import torch

from reidlit.config import options
from reidlit.engine.optim import build_optimizer
from reidlit.engine.schedules import build_scheduler
from reidlit.models import build_model

SGD = {"_target_": "torch.optim.SGD", "lr": 1.0}


def test_new_layers_train_at_the_full_rate():
    model = build_model("osnet_x0_25", num_classes=3)
    optimizer = build_optimizer(model, SGD | {"new_layers": ["classifier", "neck"], "base_lr_mult": 0.1})
    base, new = optimizer.param_groups
    assert (base["lr"], new["lr"]) == (0.1, 1.0)
    assert {id(p) for p in new["params"]} == {
        id(p) for part in (model.classifier, model.neck) for p in part.parameters()
    }
    assert len(base["params"]) + len(new["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (SGD | {"new_layers": ["clasifier"]}, "clasifier"),
        (SGD | {"learning_rate": 1}, "learning_rate"),
        ({"_target_": "torch.optim.Adagradd", "lr": 1.0}, "Adagradd"),
        ({"lr": 1.0}, "_target_"),
    ],
)
def test_mistakes_in_an_optimiser_are_named(spec, words):
    with pytest.raises(ValueError, match=words):
        build_optimizer(build_model("osnet_x0_25", num_classes=3), spec)


def test_every_optimiser_lowers_a_loss():
    for name in options("optimizer"):
        from reidlit.config import option

        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 1)
        optimizer = build_optimizer(layer, option("optimizer", name) | {"lr": 0.01})
        image = torch.randn(16, 4)
        start = layer(image).pow(2).mean().item()
        for _ in range(20):
            optimizer.zero_grad()
            layer(image).pow(2).mean().backward()
            optimizer.step()
        assert layer(image).pow(2).mean().item() < start, name


def decayed(network, layer_decay, **spec):
    """A model of a network of timm, and the rate of each of its parameters."""
    model = build_model(f"timm/{network}", num_classes=3, image_size=(64, 32))
    optimizer = build_optimizer(model, SGD | {"layer_decay": layer_decay} | spec)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return model, optimizer, {name: rates[id(p)] for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet10t"])
def test_layer_decay_is_timms(name):
    """timm's own groups, of a network that still has its classifier."""
    whole = timm.create_model(name, num_classes=3)
    groups = timm.optim.param_groups_layer_decay(whole, layer_decay=0.75)
    expected = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    _, _, rates = decayed(name, 0.75)
    theirs = {f"backbone.network.{key}": expected[id(p)] for key, p in whole.named_parameters()}
    head = [key for key in theirs if key not in rates]
    assert {theirs.pop(key) for key in head} == {1.0}
    assert {key: rate for key, rate in rates.items() if key in theirs} == pytest.approx(theirs)
    assert {rate for key, rate in rates.items() if key not in theirs} == {1.0}  # neck and classifier
    assert len(set(rates.values())) > 4


def test_layer_decay_steps_from_block_to_block():
    model, optimizer, rates = decayed("vit_tiny_patch16_224", 0.5, lr=2.0, weight_decay=0.1)
    assert rates["classifier.0.weight"] == 2.0
    assert [rates[f"backbone.network.blocks.{n}.mlp.fc1.weight"] for n in (11, 10, 0)] == [1.0, 0.5, 2.0 * 0.5**12]
    assert rates["backbone.network.pos_embed"] == 2.0 * 0.5**13
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_layer_decay_goes_with_schedules():
    _, optimizer, _ = decayed("vit_tiny_patch16_224", 0.5)
    shares = [group["lr"] for group in optimizer.param_groups]
    spec = {"_target_": "reidlit.engine.schedules.Cosine", "max_epochs": 6, "warmup_epochs": 2}
    schedule = build_scheduler(optimizer, spec)
    for _ in range(5):
        now = [group["lr"] for group in optimizer.param_groups]
        assert now == pytest.approx([now[-1] * share for share in shares])
        optimizer.step()
        schedule.step()
    assert now[-1] == pytest.approx(0.5)


def test_norms_and_biases_without_decay():
    model = build_model("osnet_x0_25", num_classes=3)
    optimizer = build_optimizer(model, SGD | {"weight_decay": 0.1, "decay_norms": False, "new_layers": ["classifier"]})
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0, 0.1, 0.0]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1, 1.0, 1.0]
    for group in optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_parameters_of_a_loss_are_trained_without_decay():
    loss = torch.nn.Bilinear(2, 2, 2)
    optimizer = build_optimizer(torch.nn.Linear(1, 1), SGD | {"weight_decay": 0.1}, loss)
    assert [p.shape for p in optimizer.param_groups[1]["params"]] == [p.shape for p in loss.parameters()]
    assert optimizer.param_groups[1]["weight_decay"] == 0.0
    assert len(build_optimizer(torch.nn.Linear(1, 1), SGD, torch.nn.ReLU()).param_groups) == 1


def test_an_unknown_optimiser_of_timm_is_named():
    spec = {"_target_": "reidlit.engine.optim.timm_optimizer", "opt": "lambada", "lr": 1.0}
    with pytest.raises(ValueError, match="opt='lambada' is unknown to timm"):
        build_optimizer(torch.nn.Linear(1, 1), spec)


@pytest.mark.parametrize("off", [None, 1, 1.0])
def test_no_layer_decay_changes_nothing(off):
    model = build_model("osnet_x0_25", num_classes=3)
    assert len(build_optimizer(model, SGD | {"layer_decay": off}).param_groups) == 1
    assert len(build_optimizer(model, SGD | {"layer_decay": off, "new_layers": ["neck"]}).param_groups) == 2


@pytest.mark.parametrize(
    ("model", "spec", "words"),
    [
        ("timm/vit_tiny_patch16_224", {"layer_decay": 0.0}, r"layer_decay=0\.0 must be above 0"),
        ("timm/vit_tiny_patch16_224", {"layer_decay": 1.5}, r"layer_decay=1\.5 must be above 0"),
        (
            "timm/vit_tiny_patch16_224",
            {"layer_decay": 0.7, "new_layers": ["neck"]},
            r"layer_decay=0\.7 and optimizer\.new_layers=\['neck'\]",
        ),
        ("osnet_x0_25", {"layer_decay": 0.7}, "tells no order of its layers"),
        ("squeezenet1_1", {"layer_decay": 0.7}, "tells no order of its layers"),
    ],
)
def test_mistakes_in_layer_decay_are_named(model, spec, words):
    with pytest.raises(ValueError, match=words):
        build_optimizer(build_model(model, num_classes=3), SGD | spec)
