"""`reidlit train` and the files that it writes."""

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


def test_run_writes_checkpoint_metrics_and_ranked_lists(trained):
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


def test_metrics_and_settings_are_logged(trained):
    with (trained / "csv" / "metrics.csv").open() as file:
        header = next(csv.reader(file))
    assert {"train/loss", "train/accuracy", "test/synthetic/mAP"} <= set(header)
    assert any(name.startswith("lr-") for name in header)
    assert "osnet" in (trained / "csv" / "hparams.yaml").read_text()
    assert list((trained / "tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.slow
def test_checkpoint_loads_without_hydra_in_another_folder(trained, tmp_path):
    """A process that cannot import Hydra loads a copy; the checkpoint contains no path of the run."""
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
def test_weights_depend_on_seed_not_on_workers_or_packing(reidlit, tmp_path):
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
def test_killed_run_resumes_to_weights_of_uninterrupted_run(process, tmp_path):
    epochs = [*TRAIN, "trainer.max_epochs=3", "test=false", "data.batch_size=4", "transforms=flip_crop_erase"]
    uninterrupted = process("train", *epochs, f"hydra.run.dir={tmp_path}/uninterrupted")
    printed, _ = uninterrupted.communicate(timeout=240)
    assert uninterrupted.returncode == 0, printed

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
    expected = weights(tmp_path / "uninterrupted" / "checkpoints" / "last.ckpt")
    found = weights(tmp_path / "runs" / "train" / "resumed" / "checkpoints" / "last.ckpt")
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_resuming_in_the_same_folder_keeps_earlier_logs(reidlit, tmp_path):
    run = [*TRAIN, "test=false", "logger=csv", f"hydra.run.dir={tmp_path}/run"]
    assert reidlit("train", *run).status == 0
    before = (tmp_path / "run" / "csv" / "metrics.csv").read_text()
    assert reidlit("train", *run, "ckpt_path=last", "trainer.max_epochs=3").status == 0
    assert (tmp_path / "run" / "csv" / "metrics.csv").read_text() == before
    assert (tmp_path / "run" / "csv_2" / "metrics.csv").is_file()


@pytest.mark.slow
def test_ctrl_c_prints_one_message_and_leaves_valid_checkpoint(process, tmp_path):
    running = process("train", *TRAIN, "trainer.max_epochs=500", "hydra.run.dir=run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    while not last.exists():
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    printed, _ = running.communicate(timeout=240)
    assert running.returncode == 130
    assert "ckpt_path=last" in printed
    assert "Traceback" not in printed
    assert weights(last)
    assert not list(tmp_path.rglob("*.part"))


def test_best_checkpoint_is_selected_on_held_out_identities(reidlit, tmp_path):
    run = [*(item for item in TRAIN if not item.startswith("callbacks")), "callbacks=best", "callbacks.progress=null"]
    assert "data.val_fraction" in reidlit("train", *run).err
    arguments = [*run, "data.val_fraction=0.34", "test=false", f"hydra.run.dir={tmp_path}/run"]
    assert reidlit("train", *arguments).status == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 < metrics["val/mAP"] <= 1
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()
    pids = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["hyper_parameters"]["pids"]
    assert len(pids) == 4


def test_freezing_keeps_weights_and_batch_norm_statistics(reidlit, tmp_path):
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
def test_losses_train(loss, reidlit, tmp_path):
    arguments = [*TRAIN, f"loss={loss}", "trainer.max_epochs=1", "trainer.log_every_n_steps=1", "logger=csv"]
    assert reidlit("train", *arguments, "test=false", f"hydra.run.dir={tmp_path}/run").status == 0
    logged = (tmp_path / "run" / "csv" / "metrics.csv").read_text()
    assert "train/loss" in logged
    assert ("train/triplet" in logged) == (loss == "softmax_triplet")


@pytest.mark.parametrize("experiment", mostly_slow(options("experiment"), FAST_EXPERIMENTS))
def test_every_experiment_runs(experiment, reidlit):
    """Run one step of each experiment on small synthetic images, without pretrained weights or compilation."""
    recipe = option("experiment", experiment)
    data = ["data=synthetic", *TINY]
    if "sources" in recipe.get("data", {}):
        sizes = ",".join(item.removeprefix("data.").replace("=", ":") for item in TINY[:6])
        sources = [
            f"{{synthetic:{{{sizes},drawing_seed:{n},name:set{n}}}}}" for n in range(len(recipe["data"]["sources"]))
        ]
        data = [f"data.sources=[{','.join(sources)}]", "data.targets=null", *TINY[6:]]
    # HACNN has a fixed input size; DINOv2 has patches of 14 pixels.
    size = {"hacnn": (160, 64), "vit_s_dinov2": (56, 28)}.get(experiment, (64, 32))
    data += [f"data.height={size[0]}", f"data.width={size[1]}"]
    if "num_instances" in recipe.get("sampler", {}):
        data += ["sampler.num_instances=4"]
    small = [*data, "data.batch_size=8", "model.pretrained=false", "engine.compile_model=false"]
    result = reidlit("train", f"experiment={experiment}", *small, "trainer.fast_dev_run=true")
    assert result.status == 0, result.err


@pytest.mark.slow
def test_sweep_runs_each_job_in_its_own_folder(reidlit, tmp_path):
    arguments = [*TRAIN, "trainer.max_epochs=1", "logger=csv", "seed=1,2", f"hydra.sweep.dir={tmp_path}/sweep"]
    assert reidlit("train", "-m", *arguments).status == 0
    assert all((tmp_path / "sweep" / job / "metrics.json").is_file() for job in "01")
    one, two = (weights(tmp_path / "sweep" / job / "checkpoints" / "last.ckpt") for job in "01")
    assert not any(torch.equal(tensor, two[name]) for name, tensor in one.items() if name.endswith("conv.weight"))


def test_sweep_on_several_devices_is_refused(reidlit):
    result = reidlit("train", "-m", *TRAIN, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "seed=1,2")
    assert result.status != 0
    assert "trainer.devices=2" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGKILL"])
def test_run_stopped_mid_epoch_resumes_to_weights_of_uninterrupted_run(signal_name, process, tmp_path):
    """SIGTERM saves a checkpoint immediately; SIGKILL leaves the checkpoint of every second step."""
    run = [*TRAIN, "test=false", "data.batch_size=4", "scheduler.interval=step"]
    run += ["model/neck=dropout", "model.neck.p=0.3", "transforms=flip_crop_erase", "logger=csv"]
    frequent = ["callbacks.interim.every_n_train_steps=2", "callbacks.interim.train_time_interval=null"]
    uninterrupted = process("train", *run, "hydra.run.dir=uninterrupted")
    stopped = process("train", *run, *frequent, *pause_after(tmp_path, 5), "hydra.run.dir=stopped")
    last = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    wait_for_pause(tmp_path, stopped)
    stopped.send_signal(getattr(signal, signal_name))
    stopped.wait()
    assert torch.load(last, weights_only=True)["global_step"] == (5 if signal_name == "SIGTERM" else 4)
    resumed = process("train", *run, f"ckpt_path={last}", "hydra.run.dir=resumed")
    for running in (uninterrupted, resumed):
        printed, _ = running.communicate(timeout=240)
        assert running.returncode == 0, printed
    expected, found = (weights(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("uninterrupted", "resumed"))
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
