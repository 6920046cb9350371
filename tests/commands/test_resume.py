"""A resumed run is compared with its checkpoint, whose state cannot reach files outside the run."""

import math

import pytest
import torch

from helpers.cli_settings import TRAIN


def resume(reidlit, trained, *overrides):
    checkpoint = trained / "checkpoints" / "last.ckpt"
    return reidlit("train", *TRAIN, "trainer.max_epochs=3", "test=false", f"ckpt_path={checkpoint}", *overrides)


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["data.batch_size=6"], ["data.batch_size: 12 -> 6"]),
        (["data.height=96"], ["data.height: 64 -> 96"]),
        (["seed=2"], ["seed: 1 -> 2"]),
        (["optimizer.lr=1e-4"], ["optimizer.lr: 0.0015 -> 0.0001"]),
        (["optimizer=sgd"], ["optimizer._target_", "torch.optim.SGD"]),
        (["scheduler.interval=step"], ["scheduler.interval: epoch -> step"]),
        (["scheduler=constant"], ["scheduler._target_"]),
        (["loss=softmax_triplet", "sampler=random"], ["loss.losses.triplet"]),
        (["sampler=sequential"], ["sampler._target_"]),
        (["transforms=none"], ["transforms.train"]),
        (["averaging=ema"], ["callbacks.ema"]),
        (["trainer.accumulate_grad_batches=2"], ["trainer.accumulate_grad_batches: 1 -> 2"]),
        (["trainer.max_epochs=1"], ["trainer.max_epochs=1"]),
        (["engine=mutual", "engine.peers=[osnet_x0_25]"], ["ckpt_path"]),
    ],
)
def test_settings_that_must_not_change_are_named(reidlit, trained, overrides, names):
    result = resume(reidlit, trained, *overrides)
    assert result.status == 1
    assert "Traceback" not in result.err
    for name in names:
        assert name in result.err


def test_a_longer_cosine_run_trains_at_the_rates_of_the_longer_schedule(reidlit, trained, tmp_path):
    result = resume(
        reidlit, trained, "hydra.run.dir=longer", "logger=csv", "data.num_workers=1", "data.test_batch_size=7"
    )
    assert result.status == 0, result.err
    assert "trainer.max_epochs: 2 -> 3" in result.out + result.err
    rates = [row.split(",") for row in (tmp_path / "longer/csv/metrics.csv").read_text().splitlines()]
    column = next(index for index, name in enumerate(rates[0]) if name.startswith("lr-"))
    (rate,) = {float(row[column]) for row in rates[1:] if row[column]}
    assert rate == pytest.approx(1.5e-3 * (1 + math.cos(math.pi * 2 / 3)) / 2)


@pytest.mark.parametrize("prefix", ["local://", "", "file://"])
def test_paths_in_the_state_of_a_checkpoint_delete_nothing(reidlit, trained, tmp_path, prefix):
    precious = tmp_path / "precious" / "thesis.ckpt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    own = tmp_path / "run" / "checkpoints"
    own.mkdir(parents=True)
    for victim in (precious, precious.parent, own / ".." / ".." / "precious"):
        for key, state in content["callbacks"].items():
            if "best_model_path" in state:
                path = f"{prefix}{victim}"
                content["callbacks"][key] = state | {
                    "dirpath": str(own),
                    "best_model_path": path,
                    "kth_best_model_path": path,
                    "last_model_path": path,
                    "best_k_models": {path: torch.tensor(0.0)},
                }
        torch.save(content, own / "last.ckpt")
        result = reidlit(
            *("train", *TRAIN, "trainer.max_epochs=3", "test=false", "logger=csv"),
            *(f"ckpt_path={own}/last.ckpt", f"hydra.run.dir={tmp_path}/run"),
        )
        assert result.status == 0, result.err
        assert precious.read_text() == "years of work"
