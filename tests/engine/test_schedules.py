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
    result = []
    for _ in range(steps):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return result


@pytest.mark.parametrize(
    ("torchreid_name", "reidlit_spec", "torchreid_options"),
    [
        ("cosine", spec("Cosine", max_epochs=12), {"max_epoch": 12}),
        ("single_step", spec("Step", step_size=4), {"stepsize": 4}),
        ("multi_step", spec("MultiStep", milestones=[3, 9]), {"stepsize": [3, 9]}),
    ],
)
def test_schedules_match_torchreid(torchreid_name, reidlit_spec, torchreid_options):
    torchreid_optim = pytest.importorskip("torchreid.reid.optim")
    optimizer = build_optimizer(torch.nn.Linear(1, 1), SGD)
    schedule = torchreid_optim.build_lr_scheduler(optimizer, lr_scheduler=torchreid_name, **torchreid_options)
    expected = []
    for _ in range(12):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates(reidlit_spec, 12) == pytest.approx(expected)


def test_one_cycle_matches_torch():
    optimizer = build_optimizer(torch.nn.Linear(1, 1), SGD | {"momentum": 0.9})
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=31, pct_start=0.3 * 30 / 30)
    expected = []
    for _ in range(31):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step() if len(expected) < 31 else None
    # The schedule of torch rises for pct_start * total - 1 steps and ends one step before the total.
    rise = (0.3 * 31 - 1) / 30
    assert rates(spec("OneCycle", max_epochs=30, rise=rise), 31) == pytest.approx(expected, abs=1e-6)


def test_schedule_starts_after_warm_up():
    warm_up = spec("Step", step_size=2, warmup_epochs=4, warmup_factor=0.2)
    assert rates(warm_up, 8) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 0.1, 0.1])


def test_cosine_has_warm_up_flat_phase_and_final_rate():
    values = rates(spec("Cosine", max_epochs=12, warmup_epochs=2, flat=0.2, final=0.1), 14)
    assert values[2:5] == [1.0, 1.0, 1.0]
    assert values[8] == pytest.approx(0.55)
    assert values[12:] == pytest.approx([0.1, 0.1])


def test_interval_step_changes_rate_within_epoch():
    by_epoch = spec("Cosine", max_epochs=6, warmup_epochs=2)
    by_step = rates(by_epoch | {"interval": "step"}, 24, steps_per_epoch=4)
    assert by_step[::4] == pytest.approx(rates(by_epoch, 6))
    assert len(set(by_step)) == 24


@pytest.mark.parametrize("name", options("scheduler"))
def test_every_schedule_stays_within_base_rate(name):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"scheduler={name}", "trainer.max_epochs=40"]).scheduler
    values = rates(OmegaConf.to_container(cfg, resolve=True), 41)
    assert max(values) <= 1.0
    assert min(values) >= 0.0
    assert max(values) > 0.99


def test_state_contains_only_plain_values(tmp_path):
    schedule = build_scheduler(build_optimizer(torch.nn.Linear(1, 1), SGD), spec("Cosine", max_epochs=3))
    torch.save(schedule.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["last_epoch"] == 0


@pytest.mark.parametrize(
    ("invalid", "pattern"),
    [
        (spec("Step", step_size=2, warmup_epochs=-1), "warmup_epochs=-1"),
        (spec("Step", step_size=2, warmup_epochs=1, warmup_factor=0.0), r"warmup_factor=0\.0"),
        (spec("Step", step_size=0), "step_size=0"),
        (spec("MultiStep", milestones=[4, 2]), r"milestones=\[4, 2\]"),
        (spec("Cosine", max_epochs=5, warmup_epochs=9), r"warmup_epochs=9.*trainer\.max_epochs=5"),
        (spec("Cosine", max_epochs=5, flat=1.0), r"flat=1\.0"),
        (spec("OneCycle", max_epochs=5, rise=1.0), r"rise=1\.0"),
        (spec("Constant", interval="day"), "interval='day'"),
    ],
)
def test_invalid_spec_raises(invalid, pattern):
    with pytest.raises(ValueError, match=pattern):
        rates(invalid, 1)
