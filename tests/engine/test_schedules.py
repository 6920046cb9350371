"""Learning-rate schedules."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from reidlit.config import CONFIG_DIR, options
from reidlit.engine.optim import build_optimizer
from reidlit.engine.schedules import build_scheduler

SGD = {"_target_": "torch.optim.SGD", "lr": 1.0}


def spec(name, **changes):
    return {"_target_": f"reidlit.engine.schedules.{name}"} | changes


def rates(spec, steps, steps_per_epoch=1):
    optimizer = build_optimizer(torch.nn.Linear(1, 1), SGD)
    schedule = build_scheduler(optimizer, spec, lambda: steps_per_epoch)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("cosine", spec("Cosine", max_epochs=12), {"max_epoch": 12}),
        ("single_step", spec("Step", step_size=4), {"stepsize": 4}),
        ("multi_step", spec("MultiStep", milestones=[3, 9]), {"stepsize": [3, 9]}),
    ],
)
def test_schedules_are_torchreids(name, ours, theirs):
    optimizer = build_optimizer(torch.nn.Linear(1, 1), SGD)
    schedule = pytest.importorskip("torchreid.reid.optim").build_lr_scheduler(optimizer, lr_scheduler=name, **theirs)
    expected = []
    for _ in range(12):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates(ours, 12) == pytest.approx(expected)


def test_one_cycle_is_torchs():
    optimizer = build_optimizer(torch.nn.Linear(1, 1), SGD | {"momentum": 0.9})
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=31, pct_start=0.3 * 30 / 30)
    expected = []
    for _ in range(31):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step() if len(expected) < 31 else None
    # Theirs rises for pct_start * total - 1 steps and ends a step before the total.
    rise = (0.3 * 31 - 1) / 30
    assert rates(spec("OneCycle", max_epochs=30, rise=rise), 31) == pytest.approx(expected, abs=1e-6)


def test_warm_up_rises_and_then_the_schedule_starts():
    warm = spec("Step", step_size=2, warmup_epochs=4, warmup_factor=0.2)
    assert rates(warm, 8) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 0.1, 0.1])


def test_cosine_reaches_its_end_after_a_warm_up_and_a_flat_part():
    seen = rates(spec("Cosine", max_epochs=12, warmup_epochs=2, flat=0.2, final=0.1), 14)
    assert seen[2:5] == [1.0, 1.0, 1.0]
    assert seen[8] == pytest.approx(0.55)
    assert seen[12:] == pytest.approx([0.1, 0.1])


def test_by_step_the_rate_moves_within_an_epoch():
    by_epoch = spec("Cosine", max_epochs=6, warmup_epochs=2)
    fine = rates(by_epoch | {"interval": "step"}, 24, steps_per_epoch=4)
    assert fine[::4] == pytest.approx(rates(by_epoch, 6))
    assert len(set(fine)) == 24


@pytest.mark.parametrize("name", options("scheduler"))
def test_every_option_starts_and_ends_within_the_full_rate(name):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        chosen = compose("train", [f"scheduler={name}", "trainer.max_epochs=40"]).scheduler
    seen = rates(OmegaConf.to_container(chosen, resolve=True), 41)
    assert max(seen) <= 1.0
    assert min(seen) >= 0.0
    assert max(seen) > 0.99


def test_its_state_holds_plain_numbers_only(tmp_path):
    schedule = build_scheduler(build_optimizer(torch.nn.Linear(1, 1), SGD), spec("Cosine", max_epochs=3))
    torch.save(schedule.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["last_epoch"] == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (spec("Step", step_size=2, warmup_epochs=-1), "warmup_epochs=-1"),
        (spec("Step", step_size=2, warmup_epochs=1, warmup_factor=0.0), r"warmup_factor=0\.0"),
        (spec("Step", step_size=0), "step_size=0"),
        (spec("MultiStep", milestones=[4, 2]), r"milestones=\[4, 2\]"),
        (spec("Cosine", max_epochs=5, warmup_epochs=9), "warmup_epochs=9 must be below trainer.max_epochs=5"),
        (spec("Cosine", max_epochs=5, flat=1.0), r"flat=1\.0"),
        (spec("OneCycle", max_epochs=5, rise=1.0), r"rise=1\.0"),
        (spec("Constant", interval="day"), "interval='day'"),
    ],
)
def test_mistakes_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        rates(wrong, 1)
