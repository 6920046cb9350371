"""Mutual learning and distillation on the command line."""

import csv
import json

import numpy as np
import pytest
import torch
from pyarrow import parquet

from helpers.cli_settings import TINY, TRAIN

SHORT = [*TRAIN, "data.batch_size=4", "test=false", "logger=csv"]
MUTUAL = ["engine=mutual", "engine.peers=[{osnet_x0_25:{neck:{dim:64}}}]"]


def distillation(trained):
    weights = ["engine.weights.relational_distance=1", "engine.weights.relational_angle=2"]
    return ["engine=distillation", f"engine.teacher={trained}/checkpoints/last.ckpt", *weights]


def logged(run):
    with (run / "csv" / "metrics.csv").open() as file:
        return set(next(csv.reader(file)))


def distances(run):
    """Return the distances of each query to the entries of its ranked list."""
    return np.array(parquet.read_table(run / "per_query.parquet")["distance"].to_pylist())


def mean_aps(run):
    return {key: value for key, value in json.loads((run / "metrics.json").read_text()).items() if key.endswith("/mAP")}


@pytest.mark.slow
def test_mutual_learning_is_tested_as_single_network_or_ensemble(reidlit, tmp_path):
    """The loss has a margin, so the peer gets the margin classifier of the model."""
    run = [*TINY, *MUTUAL, "callbacks.progress=null", "trainer.max_epochs=1", "data.batch_size=12", "loss=arcface"]
    done = reidlit("train", *run, "logger=csv", "engine.ensemble=true", f"hydra.run.dir={tmp_path}/run")
    assert done.status == 0, done.err
    assert {"train/mutual", "train/peer1/mutual", "train/peer1/loss"} <= logged(tmp_path / "run")
    assert not (tmp_path / "run" / "calibration.json").exists()
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    for name, options in {"one": [], "all": ["engine=mutual", "engine.ensemble=true"]}.items():
        tested = reidlit("test", *TINY[:6], f"ckpt_path={path}", *options, f"hydra.run.dir={tmp_path}/{name}")
        assert tested.status == 0, tested.err
    assert mean_aps(tmp_path / "all") == mean_aps(tmp_path / "run")
    one, run = (distances(tmp_path / name) for name in ("one", "run"))
    finite = np.isfinite(one)
    assert (
        np.abs(one - run)[finite].max() > 0.01 * run[finite].max()
    )  # the embeddings differ, even if the scores are equal
    assert (tmp_path / "one" / "calibration.json").is_file()


@pytest.mark.slow
def test_distilled_student_is_tested_without_teacher(reidlit, tmp_path, trained):
    teacher = tmp_path / "checkpoints" / "last.ckpt"
    teacher.parent.mkdir()
    teacher.write_bytes((trained / "checkpoints" / "last.ckpt").read_bytes())
    run = [*SHORT, *distillation(tmp_path), "data.height=32", "trainer.max_epochs=1", "test=true"]
    done = reidlit("train", *run, f"hydra.run.dir={tmp_path}/run")
    assert done.status == 0, done.err
    assert {"train/distillation", "train/soft_targets", "train/relational_angle"} <= logged(tmp_path / "run")
    teacher.unlink()
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert reidlit("test", *TINY[:6], f"ckpt_path={path}", f"hydra.run.dir={tmp_path}/test").status == 0
    assert mean_aps(tmp_path / "test") == mean_aps(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("procedure", ["mutual", "distillation"])
def test_run_resumed_mid_epoch_equals_uninterrupted_run(procedure, reidlit, tmp_path, trained):
    """The run uses averaged weights, accumulated gradients, mixed precision, dropout and frequent checkpoints."""
    engine = MUTUAL if procedure == "mutual" else distillation(trained)
    run = [*SHORT, *engine, "averaging=ema", "callbacks.progress=null", "callbacks.ema.decay=0.5"]
    run += [
        "model/neck=dropout",
        "model.neck.p=0.3",
        "trainer.precision=bf16-mixed",
        "trainer.accumulate_grad_batches=2",
    ]
    steps = ["callbacks.interim.filename='{step}'", "callbacks.interim.save_top_k=-1"]
    steps += ["callbacks.interim.every_n_train_steps=2", "callbacks.interim.train_time_interval=null"]
    steps += ["+callbacks.interim.auto_insert_metric_name=false"]
    done = reidlit("train", *run, *steps, f"hydra.run.dir={tmp_path}/a")
    assert done.status == 0, done.err
    mid_epoch = tmp_path / "a" / "checkpoints" / "2.ckpt"
    resumed = reidlit("train", *run, f"ckpt_path={mid_epoch}", f"hydra.run.dir={tmp_path}/b")
    assert resumed.status == 0, resumed.err
    one, two = (torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in "ab")
    assert torch.load(mid_epoch, weights_only=True)["global_step"] == 2 < one["global_step"]
    for key in ("state_dict", "current_model_state", *(["peers"] if procedure == "mutual" else [])):
        assert one[key].keys() == two[key].keys()
        assert all(torch.equal(tensor, two[key][name]) for name, tensor in one[key].items())


@pytest.mark.slow
@pytest.mark.parametrize("procedure", ["mutual", "distillation"])
def test_two_processes_train(procedure, process, tmp_path, trained):
    """DDP fails at the second step if a parameter has no gradient."""
    engine = MUTUAL if procedure == "mutual" else distillation(trained)
    devices = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=1"]
    running = process("train", *SHORT, *engine, *devices, f"hydra.run.dir={tmp_path}/run")
    printed, _ = running.communicate(timeout=240)
    assert running.returncode == 0, printed
    content = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] > 2
    assert ("peers" in content) == (procedure == "mutual")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["engine=mutual", "engine.peers=[osnet_x9]"], ["engine.peers", "'osnet_x9'"]),
        (["engine=mutual", "engine.peers=[{osnet_x0_5:{width:1}}]"], ["engine.peers", "model=osnet_x0_5", "['width']"]),
        (["engine=mutual", "ckpt_path=TRAINED/checkpoints/last.ckpt"], ["ckpt_path=", "peers"]),
        (["engine=distillation"], ["engine.teacher=null"]),
        (["engine=distillation", "engine.teacher=nowhere.ckpt"], ["engine.teacher=nowhere.ckpt"]),
    ],
)
def test_invalid_arguments_are_named(changes, expected, reidlit, trained):
    done = reidlit("train", *SHORT, *(change.replace("TRAINED", str(trained)) for change in changes))
    assert done.status == 1
    assert all(text in done.err for text in expected), done.err


def test_mutual_engine_cannot_test_a_weight_file(reidlit, trained):
    file = f"weights={trained}/checkpoints/last.ckpt"
    assert "weights=" in reidlit("test", *TINY, "engine=mutual", file).err
    assert "engine.peers=[]" in reidlit("test", *TINY, "engine=mutual", file.replace("weights", "ckpt_path")).err
