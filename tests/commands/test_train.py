"""`reidlit train` and what it leaves."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from helpers.cli_settings import TINY, TRAIN
from helpers.pause import pause_after, wait_for_pause
from helpers.slow import mostly_slow
from reidlit.config import option, options

FAST_EXPERIMENTS = {"osnet_x0_25_cpu", "bot_r50", "osnet_ain_search", "osnet_ain_x1_0_multi"}


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def test_run_leaves_checkpoint_metrics_and_picture(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    for state in ("untrained", "test"):
        assert 0 < metrics[f"{state}/synthetic/mAP"] <= 1
        assert 0 < metrics[f"{state}/synthetic/mINP"] <= 1
        assert 0 <= metrics[f"{state}/synthetic/rank1"] <= metrics[f"{state}/synthetic/rank20"] <= 1
    assert metrics["test/synthetic/num_valid"] == 12
    printed = (trained.parent / "printed.txt").read_text()
    for path in ("metrics.json", "checkpoints/last.ckpt", "ranked_lists/synthetic.png"):
        assert (trained / path).is_file()
        assert str(trained / path) in printed
    with Image.open(trained / "ranked_lists/synthetic.png") as picture:
        assert picture.size > (300, 300)
    assert not list(trained.rglob("*.part"))


def test_everything_is_logged(trained):
    with (trained / "csv" / "metrics.csv").open() as file:
        header = next(csv.reader(file))
    assert {"train/loss", "train/accuracy", "test/synthetic/mAP"} <= set(header)
    assert any(name.startswith("lr-") for name in header)
    assert "osnet" in (trained / "csv" / "hparams.yaml").read_text()
    assert list((trained / "tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.slow
def test_checkpoint_loads_in_python_without_hydra_on_other_paths(trained, tmp_path):
    """In a process that cannot import Hydra, from another folder, after the run's own is out of reach."""
    moved = tmp_path / "elsewhere.ckpt"
    moved.write_bytes((trained / "checkpoints" / "last.ckpt").read_bytes())
    code = f"""
import sys
sys.modules["hydra"] = None
import torch, reidlit
content = torch.load({str(moved)!r}, weights_only=True)
assert content["hyper_parameters"]["image_size"] == [64, 32], content["hyper_parameters"]
module = reidlit.ReIDModule.load_from_checkpoint({str(moved)!r}).eval()
print(module(torch.zeros(2, 3, 64, 32, dtype=torch.uint8)).shape, len(module.hparams["pids"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.strip() == "torch.Size([2, 512]) 6", done.stderr
    text = str(torch.load(moved, weights_only=True)["hyper_parameters"])
    assert str(trained.parent) not in text


@pytest.mark.slow
def test_same_seed_same_weights_whatever_the_workers_and_packs(reidlit, tmp_path):
    runs = {"a": [], "b": ["data.num_workers=2"], "c": ["data.pack=decoded"]}
    for name, changes in runs.items():
        done = reidlit(
            "train", *TRAIN, *changes, "trainer.max_epochs=1", "test=false", f"hydra.run.dir={tmp_path}/{name}"
        )
        assert done.status == 0, done.err
    assert len(list((tmp_path / "packed").glob("synthetic-*.arrow"))) == 1
    first, *others = (weights(tmp_path / name / "checkpoints" / "last.ckpt") for name in runs)
    for other in others:
        assert all(torch.equal(tensor, other[key]) for key, tensor in first.items())


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_weights_of_an_unbroken_one(process, tmp_path):
    epochs = [*TRAIN, "trainer.max_epochs=3", "test=false", "data.batch_size=4", "transforms=flip_crop_erase"]
    unbroken = process("train", *epochs, f"hydra.run.dir={tmp_path}/unbroken")
    printed, _ = unbroken.communicate(timeout=240)
    assert unbroken.returncode == 0, printed

    pause = pause_after(tmp_path, 13)  # within the second epoch
    killed = process("train", *epochs, *pause, "hydra.run.dir=runs/train/killed", "logger=csv")
    last = tmp_path / "runs" / "train" / "killed" / "checkpoints" / "last.ckpt"
    wait_for_pause(tmp_path, killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert torch.load(last, weights_only=True)["epoch"] == 0

    resumed = process("train", *epochs, "ckpt_path=last", "hydra.run.dir=runs/train/resumed")
    printed, _ = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, printed
    assert "resuming" in printed
    expected = weights(tmp_path / "unbroken" / "checkpoints" / "last.ckpt")
    found = weights(tmp_path / "runs" / "train" / "resumed" / "checkpoints" / "last.ckpt")
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_resuming_in_the_same_folder_keeps_what_was_logged(reidlit, tmp_path):
    run = [*TRAIN, "test=false", "logger=csv", f"hydra.run.dir={tmp_path}/run"]
    assert reidlit("train", *run).status == 0
    before = (tmp_path / "run" / "csv" / "metrics.csv").read_text()
    assert reidlit("train", *run, "ckpt_path=last", "trainer.max_epochs=3").status == 0
    assert (tmp_path / "run" / "csv" / "metrics.csv").read_text() == before
    assert (tmp_path / "run" / "csv_2" / "metrics.csv").is_file()


@pytest.mark.slow
def test_ctrl_c_ends_with_one_message_and_a_whole_checkpoint(process, tmp_path):
    running = process("train", *TRAIN, "trainer.max_epochs=500", "hydra.run.dir=run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    while not last.exists():
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    printed, _ = running.communicate(timeout=240)
    assert running.returncode == 130
    assert "add ckpt_path=last" in printed
    assert "Traceback" not in printed
    assert weights(last)
    assert not list(tmp_path.rglob("*.part"))


def test_best_checkpoint_on_held_out_identities(reidlit, tmp_path):
    run = [*(item for item in TRAIN if not item.startswith("callbacks")), "callbacks=best", "callbacks.progress=null"]
    assert "data.val_fraction" in reidlit("train", *run).err
    arguments = [*run, "data.val_fraction=0.34", "test=false", f"hydra.run.dir={tmp_path}/run"]
    assert reidlit("train", *arguments).status == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 < metrics["val/mAP"] <= 1
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()
    held = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["hyper_parameters"]["pids"]
    assert len(held) == 4


def test_two_step_training_freezes_weights_and_statistics(reidlit, tmp_path):
    frozen = ["callbacks.freeze.epochs=1", "callbacks.freeze.open_layers=[classifier]", "test=false"]
    for epochs in (1, 2):
        arguments = [*TRAIN, *frozen, f"trainer.max_epochs={epochs}", f"hydra.run.dir={tmp_path}/{epochs}"]
        assert reidlit("train", *arguments).status == 0
    torch.manual_seed(0)
    one, two = (weights(tmp_path / str(epochs) / "checkpoints" / "last.ckpt") for epochs in (1, 2))
    untouched = {"model.backbone.conv1.bn.running_mean": 0.0, "model.backbone.conv1.bn.running_var": 1.0}
    for name, value in untouched.items():
        assert (one[name] == value).all()
        assert not (two[name] == value).all()
    assert one["model.classifier.0.bias"].abs().max() > 0
    assert not torch.equal(one["model.backbone.conv1.conv.weight"], two["model.backbone.conv1.conv.weight"])


@pytest.mark.parametrize("loss", mostly_slow(["triplet", "softmax_triplet"], {"softmax_triplet"}))
def test_other_losses(loss, reidlit, tmp_path):
    arguments = [*TRAIN, f"loss={loss}", "trainer.max_epochs=1", "trainer.log_every_n_steps=1", "logger=csv"]
    assert reidlit("train", *arguments, "test=false", f"hydra.run.dir={tmp_path}/run").status == 0
    logged = (tmp_path / "run" / "csv" / "metrics.csv").read_text()
    assert "train/loss" in logged
    assert ("train/triplet" in logged) == (loss == "softmax_triplet")


@pytest.mark.parametrize("experiment", mostly_slow(options("experiment"), FAST_EXPERIMENTS))
def test_every_experiment_runs(experiment, reidlit):
    """One step each of the network itself, without pretrained weights and compiler, on small drawn images."""
    recipe = option("experiment", experiment)
    drawn_data = ["data=synthetic", *TINY]
    if "sources" in recipe.get("data", {}):
        sizes = ",".join(item.removeprefix("data.").replace("=", ":") for item in TINY[:6])
        sources = [
            f"{{synthetic:{{{sizes},drawing_seed:{n},name:set{n}}}}}" for n in range(len(recipe["data"]["sources"]))
        ]
        drawn_data = [f"data.sources=[{','.join(sources)}]", "data.targets=null", *TINY[6:]]
    # A network for one size, and one whose patches are 14 wide.
    size = {"hacnn": (160, 64), "vit_s_dinov2": (56, 28)}.get(experiment, (64, 32))
    drawn_data += [f"data.height={size[0]}", f"data.width={size[1]}"]
    if "num_instances" in recipe.get("sampler", {}):
        drawn_data += ["sampler.num_instances=4"]
    small = [*drawn_data, "data.batch_size=8", "model.pretrained=false", "engine.compile_model=false"]
    result = reidlit("train", f"experiment={experiment}", *small, "trainer.fast_dev_run=true")
    assert result.status == 0, result.err


@pytest.mark.slow
def test_a_sweep_runs_each_job_in_its_own_folder(reidlit, tmp_path):
    arguments = [*TRAIN, "trainer.max_epochs=1", "logger=csv", "seed=1,2", f"hydra.sweep.dir={tmp_path}/sweep"]
    assert reidlit("train", "-m", *arguments).status == 0
    assert all((tmp_path / "sweep" / job / "metrics.json").is_file() for job in "01")
    one, two = (weights(tmp_path / "sweep" / job / "checkpoints" / "last.ckpt") for job in "01")
    assert not any(torch.equal(tensor, two[name]) for name, tensor in one.items() if name.endswith("conv.weight"))


def test_a_sweep_on_several_devices_is_refused(reidlit):
    result = reidlit("train", "-m", *TRAIN, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "seed=1,2")
    assert result.status != 0
    assert "each rank would train on other values" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_a_run_stopped_within_an_epoch_resumes_to_the_weights_of_an_unbroken_one(how, process, tmp_path):
    """SIGTERM saves at once; before SIGKILL, the last checkpoint is that of every second step."""
    run = [*TRAIN, "test=false", "data.batch_size=4", "scheduler.interval=step"]
    run += ["model/neck=dropout", "model.neck.p=0.3", "transforms=flip_crop_erase", "logger=csv"]
    often = ["callbacks.interim.every_n_train_steps=2", "callbacks.interim.train_time_interval=null"]
    unbroken = process("train", *run, "hydra.run.dir=unbroken")
    stopped = process("train", *run, *often, *pause_after(tmp_path, 5), "hydra.run.dir=stopped")
    last = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    wait_for_pause(tmp_path, stopped)
    stopped.send_signal(getattr(signal, how))
    stopped.wait()
    assert torch.load(last, weights_only=True)["global_step"] == (5 if how == "SIGTERM" else 4)
    resumed = process("train", *run, f"ckpt_path={last}", "hydra.run.dir=resumed")
    for one in (unbroken, resumed):
        printed, _ = one.communicate(timeout=240)
        assert one.returncode == 0, printed
    expected, found = (weights(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("unbroken", "resumed"))
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
