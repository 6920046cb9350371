"""NaN or infinite losses stop a training or are skipped, and reach no checkpoint."""

import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins import MixedPrecision

import helpers
from helpers.tiny_training import Recorder, every_step, fit, poisoned, same, small_module
from reidlit.engine.callbacks.nan_guard import NaNGuard


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("every", [None, 2, 100])
def test_a_bad_loss_stops_with_its_images_and_the_last_good_checkpoint(value, every, data, tmp_path):
    """At once, at the next look, and at the latest before a checkpoint."""
    datamodule, seen = data(), Recorder()
    built = small_module(datamodule, poisoned(calls=[5], value=value))
    with pytest.raises(ValueError, match="loss is NaN or infinite in epoch 1, at step 4") as error:
        fit(built, datamodule, seen, NaNGuard(every_n_steps=every), every_step(tmp_path))
    paths = [str(datamodule.train[index].path) for index in seen.indices[4]]
    assert ", ".join(paths[:8]) + " and 4 more" in str(error.value)
    assert not any(path in str(error.value) for path in paths[8:])
    assert f"last good checkpoint is {tmp_path / 'last.ckpt'}" in str(error.value)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4
    assert same(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"], seen.states[3])
    if every is None:  # the gradient never reached the weights
        assert same(dict(built.named_parameters()), seen.states[3])


def test_a_gradient_that_is_no_number_reaches_no_checkpoint(data, tmp_path):
    datamodule, seen = data(), Recorder()
    built = small_module(datamodule, poisoned(calls=[3], gradient=True))
    with pytest.raises(ValueError, match="Weights are NaN or infinite after step 3 in epoch 0"):
        fit(built, datamodule, seen, NaNGuard(), every_step(tmp_path))
    assert same(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"], seen.states[1])
    with pytest.raises(ValueError, match=r"epoch 1, at step 3.*No checkpoint was written"):
        fit(small_module(datamodule, poisoned(calls=[3], gradient=True)), datamodule, NaNGuard())


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [{}, {"precision": "bf16-mixed"}, {"gradient_clip_val": 1.0}],
    ids=["32", "bf16", "clipped"],
)
def test_a_skipped_step_leaves_all_as_it_was(accumulate, settings, data, tmp_path):
    datamodule, seen, guard = data(), Recorder(), NaNGuard("skip")
    built, logger = small_module(datamodule, poisoned(calls=[4, 9])), CSVLogger(tmp_path, "", "")
    options = settings | {"logger": logger, "log_every_n_steps": 1, "accumulate_grad_batches": accumulate}
    fit(built, datamodule, guard, seen, every_step(tmp_path), epochs=4, **options)
    assert guard.skipped == 2
    stepped = [seen.states[i] for i in range(accumulate - 1, 12, accumulate)]
    skipped = {3 // accumulate, 8 // accumulate}
    for i in range(1, len(stepped)):
        parameters = {name: stepped[i][name] for name, _ in built.named_parameters()}
        assert same(parameters, stepped[i - 1]) == (i in skipped)
    if accumulate == 1:  # else the other batches of the step do move the statistics
        assert same({n: v for n, v in stepped[3].items() if "num_batches" not in n}, stepped[2])
    assert all(torch.isfinite(value).all() for value in seen.states[-1].values())
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["LossWatch"] == {"skipped": 2}
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("train/skipped")
    assert [row.split(",")[column] for row in rows[1:]][-1] == "2.0"


@pytest.mark.parametrize("fused", [False, True])
def test_a_skipped_step_goes_with_a_gradient_scaler(fused, data):
    """An infinite loss of finite gradients, which the scaler alone would not leave out."""
    datamodule, seen, guard = data("data.batch_size=4"), Recorder(), NaNGuard("skip")
    plugin = MixedPrecision("16-mixed", device="cpu", scaler=torch.amp.GradScaler("cpu", init_scale=256.0))
    built = small_module(datamodule, poisoned(calls=[4], value=None), fused=fused)
    fit(built, datamodule, guard, seen, epochs=1, plugins=plugin, limit_train_batches=6)
    names = [name for name, _ in built.named_parameters()]
    kept = [same({n: now[n] for n in names}, before) for before, now in pairwise(seen.states)]
    assert kept == [False, False, True, False, False]
    assert guard.skipped == 1


def test_a_training_that_is_nothing_but_bad_batches_stops(data):
    datamodule = data("data.batch_size=4")
    with pytest.raises(ValueError, match=r"at step 22,.* 20 steps before it were skipped"):
        fit(small_module(datamodule, poisoned(calls=list(range(3, 99)))), datamodule, NaNGuard("skip"), epochs=4)


def test_what_a_gradient_scaler_leaves_out_is_no_error(data):
    datamodule, seen = data(), Recorder()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60, backoff_factor=2.0**-50)
    plugin = MixedPrecision("16-mixed", device="cpu", scaler=scaler)
    fit(small_module(datamodule, fused=False), datamodule, seen, NaNGuard(), plugins=plugin)
    assert scaler.get_scale() < 2.0**60, "it left out none"
    assert not same({k: v for k, v in seen.states[-1].items() if "weight" in k}, seen.states[0])


TWO = """
import os
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pytorch_lightning.strategies import DDPStrategy
from helpers.tiny_training import Recorder, fit, poisoned, small_data, small_module
from reidlit.engine.callbacks.nan_guard import NaNGuard

datamodule, seen = small_data("data.batch_size=8"), Recorder()
built = small_module(datamodule, poisoned(calls=[3], rank=1))
strategy = DDPStrategy(process_group_backend="gloo")
try:
    fit(built, datamodule, seen, NaNGuard(every_n_steps=eval(sys.argv[2])), devices=2, strategy=strategy)
except ValueError as error:
    bad = " ".join(datamodule.train[index].path for index in seen.indices[2])
    Path(os.environ.get("LOCAL_RANK", "0")).write_text(f"{error}\\n{bad}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("every", [None, 4])
def test_all_ranks_stop_and_name_the_images_of_the_bad_one(every, tmp_path, drawn):
    (tmp_path / "two.py").write_text(TWO)
    done = subprocess.run(
        [sys.executable, "two.py", str(Path(helpers.__file__).parents[1]), str(every)],
        cwd=tmp_path,
        env=os.environ | {"REIDLIT_DATA": str(drawn), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (tmp_path / "1").exists(), done.stderr
    (first, other), (second, bad) = ((tmp_path / rank).read_text().splitlines() for rank in "01")
    assert first == second
    assert all(path in first for path in bad.split())
    assert len(bad.split()) == 4
    assert not any(path in first for path in set(other.split()) - set(bad.split()))


def test_options_are_checked():
    for wrong, message in (
        ({"on_nan": "warn"}, "watch.on_nan='warn'"),
        ({"every_n_steps": 0}, "watch.every_n_steps=0"),
    ):
        with pytest.raises(ValueError, match=message):
            NaNGuard(**wrong)
