"""`averaging=ema` and `averaging=swa` on the command line, and a diverging run."""

import json
import signal

import pytest
import torch

from helpers.cli_settings import TINY, TRAIN


def content(path):
    return torch.load(path, weights_only=True)


def assert_equal(one, other):
    for key in ("state_dict", "current_model_state", "averaging_state"):
        assert one[key].keys() == other[key].keys()
        assert all(torch.equal(value, other[key][name]) for name, value in one[key].items())


@pytest.mark.slow
@pytest.mark.parametrize("average", ["ema", "swa"])
def test_averaged_weights_are_tested(average, reidlit, tmp_path):
    run = [*TRAIN, f"averaging={average}", "callbacks.progress=null", "data.batch_size=4", "optimizer.lr=0.01"]
    run += ["callbacks.ema.decay=0.9"] if average == "ema" else ["callbacks.swa.start=0"]
    done = reidlit("train", *run, f"hydra.run.dir={tmp_path}/run")
    assert done.status == 0, done.err
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert not torch.equal(
        *(content(path)[key]["model.classifier.0.weight"] for key in ("state_dict", "current_model_state"))
    )
    done = reidlit("test", *TINY[:6], f"ckpt_path={path}", f"hydra.run.dir={tmp_path}/test")
    assert done.status == 0, done.err
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run", "test"))
    assert one["test/synthetic/mAP"] == two["test/synthetic/mAP"]


@pytest.mark.slow
def test_averaged_run_killed_mid_epoch_resumes_bit_identically(process, tmp_path):
    """Compare the average, the current weights and the state of the averaging."""
    run = [*TRAIN, "averaging=ema", "callbacks.progress=null", "callbacks.ema.decay=0.8", "callbacks.ema.start_step=1"]
    run += ["trainer.max_epochs=8", "test=false", "data.batch_size=4", "transforms=flip_crop_erase", "logger=csv"]
    frequent = ["callbacks.interim.every_n_train_steps=2", "callbacks.interim.train_time_interval=null"]
    uninterrupted = process("train", *run, "hydra.run.dir=uninterrupted")
    killed = process("train", *run, *frequent, "hydra.run.dir=killed")
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    while not last.exists() or content(last)["global_step"] % 9 not in (2, 4):
        assert killed.poll() is None, killed.communicate()[0]
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=60)
    assert content(last)["global_step"] % 9 != 0
    assert content(last)["global_step"] < 8 * 9, "the run ended before it was killed"
    resumed = process("train", *run, f"ckpt_path={last}", "hydra.run.dir=resumed")
    for running in (uninterrupted, resumed):
        printed, _ = running.communicate(timeout=240)
        assert running.returncode == 0, printed
    assert_equal(*(content(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("uninterrupted", "resumed")))


@pytest.mark.slow
def test_swa_resumes_bit_identically_from_any_step(reidlit, tmp_path):
    """Resume before, at and after the epoch in which averaging starts; Lightning's own callback fails here."""
    run = [*TRAIN, "averaging=swa", "callbacks.progress=null", "callbacks.swa.start=0.34", "trainer.max_epochs=3"]
    run += ["test=false", "data.batch_size=4", "scheduler.final=0.3"]
    steps = ["callbacks.interim.filename='{step}'", "callbacks.interim.save_top_k=-1"]
    steps += ["callbacks.interim.every_n_train_steps=4", "callbacks.interim.train_time_interval=null"]
    steps += ["+callbacks.interim.auto_insert_metric_name=false"]
    done = reidlit("train", *run, *steps, f"hydra.run.dir={tmp_path}/uninterrupted")
    assert done.status == 0, done.err
    folder = tmp_path / "uninterrupted" / "checkpoints"
    expected = content(folder / "last.ckpt")
    assert int(expected["averaging_state"]["n_averaged"]) == 2
    for step in (4, 12, 20):
        done = reidlit("train", *run, f"ckpt_path={folder}/{step}.ckpt", f"hydra.run.dir={tmp_path}/{step}")
        assert done.status == 0, done.err
        assert_equal(expected, content(tmp_path / str(step) / "checkpoints" / "last.ckpt"))


@pytest.mark.slow
def test_two_processes_average(process, tmp_path):
    run = [*TRAIN, "averaging=swa", "callbacks.progress=null", "callbacks.swa.start=0", "data.batch_size=8"]
    devices = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    running = process("train", *run, *devices, f"hydra.run.dir={tmp_path}/run")
    printed, _ = running.communicate(timeout=240)
    assert running.returncode == 0, printed
    found = content(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert int(found["averaging_state"]["n_averaged"]) == 2
    assert all(torch.isfinite(value).all() for value in found["state_dict"].values())


@pytest.mark.parametrize("watch", ["stop", "skip"])
def test_diverging_run_ends_with_one_message(watch, reidlit, tmp_path):
    """An extreme learning rate makes every loss NaN; no checkpoint contains NaN weights."""
    run = [*TRAIN, "data.batch_size=4", "optimizer.lr=1e30", "test=false", f"callbacks.watch.on_nan={watch}"]
    done = reidlit("train", *run, "trainer.max_epochs=4", f"hydra.run.dir={tmp_path}/run")
    assert done.status == 1
    assert "NaN" in done.err
    assert "epoch" in done.err or "step" in done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.rglob("*.part"))
    for path in (tmp_path / "run").rglob("*.ckpt"):
        assert all(torch.isfinite(value).all() for value in content(path)["state_dict"].values())
