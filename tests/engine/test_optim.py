"""Optimisers, parameter groups and schedules."""

import pytest
import torch
from torchreid.reid import optim as torchreid_optim

from reidlit.config import options
from reidlit.engine.optim import build_optimizer, build_scheduler
from reidlit.models import build_model

SGD = {"_target_": "torch.optim.SGD", "lr": 1.0}


def rates(spec, epochs):
    optimizer = build_optimizer(torch.nn.Linear(1, 1), SGD)
    schedule = build_scheduler(optimizer, spec)
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize(
    ("name", "spec", "theirs"),
    [
        ("cosine", {"_target_": "reidlit.engine.optim.cosine", "max_epochs": 12}, {"max_epoch": 12}),
        ("single_step", {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 4}, {"stepsize": 4}),
        (
            "multi_step",
            {"_target_": "torch.optim.lr_scheduler.MultiStepLR", "milestones": [3, 9]},
            {"stepsize": [3, 9]},
        ),
    ],
)
def test_schedules_are_torchreids(name, spec, theirs):
    optimizer = build_optimizer(torch.nn.Linear(1, 1), SGD)
    schedule = torchreid_optim.build_lr_scheduler(optimizer, lr_scheduler=name, **theirs)
    expected = []
    for _ in range(12):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates(spec, 12) == pytest.approx(expected)


def test_warm_up_rises_and_then_the_schedule_starts():
    spec = {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 2, "warmup_epochs": 4, "warmup_factor": 0.2}
    assert rates(spec, 8) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 0.1, 0.1])


def test_cosine_reaches_zero_after_a_warm_up():
    spec = {"_target_": "reidlit.engine.optim.cosine", "max_epochs": 10, "after": 2, "warmup_epochs": 2}
    seen = rates(spec, 11)
    assert seen[2] == 1.0
    assert seen[6] == pytest.approx(0.5)
    assert seen[10] == pytest.approx(0, abs=1e-9)


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


@pytest.mark.parametrize("change", [{"warmup_epochs": -1}, {"warmup_epochs": 1, "warmup_factor": 0.0}])
def test_mistakes_in_a_warm_up_are_named(change):
    with pytest.raises(ValueError, match="warmup"):
        rates({"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 2} | change, 1)
    with pytest.raises(ValueError, match="warmup_epochs=9"):
        rates({"_target_": "reidlit.engine.optim.cosine", "max_epochs": 5, "after": 9}, 1)


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
