"""`NaNGuard`: NaN or infinite losses stop training or are skipped, and checkpoints stay finite."""

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
def test_bad_loss_stops_training_with_images_and_last_checkpoint(value, every, data, tmp_path):
    """The loss is checked at the same step, at the next check, or before the next checkpoint."""
    datamodule, recorder = data(), Recorder()
    module = small_module(datamodule, poisoned(calls=[5], value=value))
    with pytest.raises(ValueError, match=r"epoch 1\b.*step 4\b") as error:
        fit(module, datamodule, recorder, NaNGuard(every_n_steps=every), every_step(tmp_path))
    paths = [str(datamodule.train[index].path) for index in recorder.indices[4]]
    assert ", ".join(paths[:8]) + " and 4 more" in str(error.value)
    assert not any(path in str(error.value) for path in paths[8:])
    assert str(tmp_path / "last.ckpt") in str(error.value)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4
    assert same(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"], recorder.states[3])
    if every is None:  # training stopped before the optimizer step
        assert same(dict(module.named_parameters()), recorder.states[3])


def test_nan_gradient_does_not_reach_checkpoint(data, tmp_path):
    datamodule, recorder = data(), Recorder()
    module = small_module(datamodule, poisoned(calls=[3], gradient=True))
    with pytest.raises(ValueError, match=r"step 3\b.*epoch 0\b"):
        fit(module, datamodule, recorder, NaNGuard(), every_step(tmp_path))
    assert same(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"], recorder.states[1])
    with pytest.raises(ValueError, match=r"epoch 1\b.*step 3\b") as error:
        fit(small_module(datamodule, poisoned(calls=[3], gradient=True)), datamodule, NaNGuard())
    assert ".ckpt" not in str(error.value)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [{}, {"precision": "bf16-mixed"}, {"gradient_clip_val": 1.0}],
    ids=["32", "bf16", "clipped"],
)
def test_skipped_step_changes_nothing(accumulate, settings, data, tmp_path):
    datamodule, recorder, guard = data(), Recorder(), NaNGuard("skip")
    module, logger = small_module(datamodule, poisoned(calls=[4, 9])), CSVLogger(tmp_path, "", "")
    options = settings | {"logger": logger, "log_every_n_steps": 1, "accumulate_grad_batches": accumulate}
    fit(module, datamodule, guard, recorder, every_step(tmp_path), epochs=4, **options)
    assert guard.skipped == 2
    states = [recorder.states[i] for i in range(accumulate - 1, 12, accumulate)]
    skipped = {3 // accumulate, 8 // accumulate}
    for i in range(1, len(states)):
        parameters = {name: states[i][name] for name, _ in module.named_parameters()}
        assert same(parameters, states[i - 1]) == (i in skipped)
    if accumulate == 1:  # otherwise the good batches of the step change the statistics
        assert same({n: v for n, v in states[3].items() if "num_batches" not in n}, states[2])
    assert all(torch.isfinite(value).all() for value in recorder.states[-1].values())
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["LossWatch"] == {"skipped": 2}
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("train/skipped")
    assert [row.split(",")[column] for row in rows[1:]][-1] == "2.0"


@pytest.mark.parametrize("fused", [False, True])
def test_skipping_works_with_gradient_scaler(fused, data):
    """The loss is infinite but its gradients are finite, so the scaler does not skip the step itself."""
    datamodule, recorder, guard = data("data.batch_size=4"), Recorder(), NaNGuard("skip")
    plugin = MixedPrecision("16-mixed", device="cpu", scaler=torch.amp.GradScaler("cpu", init_scale=256.0))
    module = small_module(datamodule, poisoned(calls=[4], value=None), fused=fused)
    fit(module, datamodule, guard, recorder, epochs=1, plugins=plugin, limit_train_batches=6)
    names = [name for name, _ in module.named_parameters()]
    unchanged = [same({n: after[n] for n in names}, before) for before, after in pairwise(recorder.states)]
    assert unchanged == [False, False, True, False, False]
    assert guard.skipped == 1


def test_too_many_consecutive_bad_batches_stop_training(data):
    datamodule = data("data.batch_size=4")
    with pytest.raises(ValueError, match=r"step 22\b.*\b20 steps"):
        fit(small_module(datamodule, poisoned(calls=list(range(3, 99)))), datamodule, NaNGuard("skip"), epochs=4)


def test_steps_skipped_by_gradient_scaler_do_not_raise(data):
    datamodule, recorder = data(), Recorder()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60, backoff_factor=2.0**-50)
    plugin = MixedPrecision("16-mixed", device="cpu", scaler=scaler)
    fit(small_module(datamodule, fused=False), datamodule, recorder, NaNGuard(), plugins=plugin)
    assert scaler.get_scale() < 2.0**60, "the scaler skipped no step"
    assert not same({k: v for k, v in recorder.states[-1].items() if "weight" in k}, recorder.states[0])


TWO_RANKS = """
import os
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pytorch_lightning.strategies import DDPStrategy
from helpers.tiny_training import Recorder, fit, poisoned, small_data, small_module
from reidlit.engine.callbacks.nan_guard import NaNGuard

datamodule, recorder = small_data("data.batch_size=8"), Recorder()
module = small_module(datamodule, poisoned(calls=[3], rank=1))
strategy = DDPStrategy(process_group_backend="gloo")
try:
    fit(module, datamodule, recorder, NaNGuard(every_n_steps=eval(sys.argv[2])), devices=2, strategy=strategy)
except ValueError as error:
    paths = " ".join(datamodule.train[index].path for index in recorder.indices[2])
    Path(os.environ.get("LOCAL_RANK", "0")).write_text(f"{error}\\n{paths}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("every", [None, 4])
def test_all_ranks_stop_and_list_images_of_the_bad_rank(every, tmp_path, drawn):
    (tmp_path / "two_ranks.py").write_text(TWO_RANKS)
    done = subprocess.run(
        [sys.executable, "two_ranks.py", str(Path(helpers.__file__).parents[1]), str(every)],
        cwd=tmp_path,
        env=os.environ | {"REIDLIT_DATA": str(drawn), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (tmp_path / "1").exists(), done.stderr
    (message, good_paths), (second_message, bad_paths) = ((tmp_path / rank).read_text().splitlines() for rank in "01")
    assert message == second_message
    assert all(path in message for path in bad_paths.split())
    assert len(bad_paths.split()) == 4
    assert not any(path in message for path in set(good_paths.split()) - set(bad_paths.split()))


def test_invalid_arguments_raise():
    for arguments, pattern in (
        ({"on_nan": "warn"}, r"watch\.on_nan='warn'"),
        ({"every_n_steps": 0}, r"watch\.every_n_steps=0"),
    ):
        with pytest.raises(ValueError, match=pattern):
            NaNGuard(**arguments)
