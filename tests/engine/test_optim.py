"""Optimizers and their parameter groups."""

import pytest
import timm.optim
import torch

from reidlit.config import options
from reidlit.engine.optim import build_optimizer
from reidlit.engine.schedules import build_scheduler
from reidlit.models import build_model

SGD = {"_target_": "torch.optim.SGD", "lr": 1.0}


def test_new_layers_train_with_full_learning_rate():
    model = build_model("osnet_x0_25", num_classes=3)
    optimizer = build_optimizer(model, SGD | {"new_layers": ["classifier", "neck"], "base_lr_mult": 0.1})
    base, new = optimizer.param_groups
    assert (base["lr"], new["lr"]) == (0.1, 1.0)
    new_parameters = [*model.classifier.parameters(), *model.neck.parameters()]
    assert {id(p) for p in new["params"]} == {id(p) for p in new_parameters}
    assert len(base["params"]) + len(new["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("spec", "pattern"),
    [
        (SGD | {"new_layers": ["clasifier"]}, "clasifier"),
        (SGD | {"learning_rate": 1}, "learning_rate"),
        ({"_target_": "torch.optim.Adagradd", "lr": 1.0}, "Adagradd"),
        ({"lr": 1.0}, "_target_"),
    ],
)
def test_invalid_spec_raises(spec, pattern):
    with pytest.raises(ValueError, match=pattern):
        build_optimizer(build_model("osnet_x0_25", num_classes=3), spec)


def test_every_optimizer_reduces_a_loss():
    for name in options("optimizer"):
        from reidlit.config import option

        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 1)
        optimizer = build_optimizer(layer, option("optimizer", name) | {"lr": 0.01})
        image = torch.randn(16, 4)
        initial_loss = layer(image).pow(2).mean().item()
        for _ in range(20):
            optimizer.zero_grad()
            layer(image).pow(2).mean().backward()
            optimizer.step()
        assert layer(image).pow(2).mean().item() < initial_loss, name


def with_layer_decay(network, layer_decay, **spec):
    """Return a model with a timm network, its optimizer and the learning rate of each parameter."""
    model = build_model(f"timm/{network}", num_classes=3, image_size=(64, 32))
    optimizer = build_optimizer(model, SGD | {"layer_decay": layer_decay} | spec)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return model, optimizer, {name: rates[id(p)] for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet10t"])
def test_layer_decay_matches_timm(name):
    """Compare with timm's groups for a network that still has its classifier."""
    network = timm.create_model(name, num_classes=3)
    groups = timm.optim.param_groups_layer_decay(network, layer_decay=0.75)
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    _, _, rates = with_layer_decay(name, 0.75)
    expected = {f"backbone.network.{key}": scales[id(p)] for key, p in network.named_parameters()}
    head = [key for key in expected if key not in rates]
    assert {expected.pop(key) for key in head} == {1.0}
    assert {key: rate for key, rate in rates.items() if key in expected} == pytest.approx(expected)
    assert {rate for key, rate in rates.items() if key not in expected} == {1.0}  # neck and classifier
    assert len(set(rates.values())) > 4


def test_layer_decay_applies_per_block():
    model, optimizer, rates = with_layer_decay("vit_tiny_patch16_224", 0.5, lr=2.0, weight_decay=0.1)
    assert rates["classifier.0.weight"] == 2.0
    assert [rates[f"backbone.network.blocks.{n}.mlp.fc1.weight"] for n in (11, 10, 0)] == [1.0, 0.5, 2.0 * 0.5**12]
    assert rates["backbone.network.pos_embed"] == 2.0 * 0.5**13
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_schedule_scales_rates_of_layer_decay():
    _, optimizer, _ = with_layer_decay("vit_tiny_patch16_224", 0.5)
    factors = [group["lr"] for group in optimizer.param_groups]
    spec = {"_target_": "reidlit.engine.schedules.Cosine", "max_epochs": 6, "warmup_epochs": 2}
    schedule = build_scheduler(optimizer, spec)
    for _ in range(5):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([rates[-1] * factor for factor in factors])
        optimizer.step()
        schedule.step()
    assert rates[-1] == pytest.approx(0.5)


def test_norms_and_biases_have_no_weight_decay():
    model = build_model("osnet_x0_25", num_classes=3)
    optimizer = build_optimizer(model, SGD | {"weight_decay": 0.1, "decay_norms": False, "new_layers": ["classifier"]})
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0, 0.1, 0.0]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1, 1.0, 1.0]
    for group in optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_loss_parameters_have_no_weight_decay():
    loss = torch.nn.Bilinear(2, 2, 2)
    optimizer = build_optimizer(torch.nn.Linear(1, 1), SGD | {"weight_decay": 0.1}, loss)
    assert [p.shape for p in optimizer.param_groups[1]["params"]] == [p.shape for p in loss.parameters()]
    assert optimizer.param_groups[1]["weight_decay"] == 0.0
    assert len(build_optimizer(torch.nn.Linear(1, 1), SGD, torch.nn.ReLU()).param_groups) == 1


def test_unknown_timm_optimizer_raises():
    spec = {"_target_": "reidlit.engine.optim.timm_optimizer", "opt": "lambada", "lr": 1.0}
    with pytest.raises(ValueError, match=r"optimizer\.opt='lambada'.*\blamb\b"):
        build_optimizer(torch.nn.Linear(1, 1), spec)


@pytest.mark.parametrize("layer_decay", [None, 1, 1.0])
def test_neutral_layer_decay_is_ignored(layer_decay):
    model = build_model("osnet_x0_25", num_classes=3)
    assert len(build_optimizer(model, SGD | {"layer_decay": layer_decay}).param_groups) == 1
    spec = SGD | {"layer_decay": layer_decay, "new_layers": ["neck"]}
    assert len(build_optimizer(model, spec).param_groups) == 2


@pytest.mark.parametrize(
    ("model", "spec", "pattern"),
    [
        ("timm/vit_tiny_patch16_224", {"layer_decay": 0.0}, r"optimizer\.layer_decay=0\.0"),
        ("timm/vit_tiny_patch16_224", {"layer_decay": 1.5}, r"optimizer\.layer_decay=1\.5"),
        (
            "timm/vit_tiny_patch16_224",
            {"layer_decay": 0.7, "new_layers": ["neck"]},
            r"optimizer\.layer_decay=0\.7 .*optimizer\.new_layers=\['neck'\]",
        ),
        ("osnet_x0_25", {"layer_decay": 0.7}, r"optimizer\.layer_decay=0\.7 .*timm"),
        ("squeezenet1_1", {"layer_decay": 0.7}, r"optimizer\.layer_decay=0\.7 .*timm"),
    ],
)
def test_invalid_layer_decay_raises(model, spec, pattern):
    with pytest.raises(ValueError, match=pattern):
        build_optimizer(build_model(model, num_classes=3), SGD | spec)
