"""Unusual names, a jumping clock, a killed DataLoader worker, and weights that are NaN."""

import json
import os
import signal
import time
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.cli_settings import TRAIN
from reidlit.data.images import Images
from reidlit.inference.features import Features

ODD = "données à l'essai, 人物 (1) 100% #2 [a]; $b & c"
QUIET = ["callbacks.progress=null", "data.num_workers=0"]


def quoted(path):
    """Quote a path for Hydra."""
    return "'" + str(path).replace("'", "\\'") + "'"


def crops(root, people=6, each=4):
    """Write random images of two cameras, one folder per person."""
    noise = np.random.default_rng(0)
    for person in range(people):
        folder = root / f"personne n° {person} é"
        folder.mkdir(parents=True)
        for number in range(each):
            pixels = noise.integers(0, 256, (32, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"caméra_c{number % 2} é {number}.jpg")
    return root


@pytest.mark.slow
def test_spaces_and_other_scripts_in_all_paths(reidlit, tmp_path):
    """Train, test, extract, search and verify with such names in every path."""
    root, run = crops(tmp_path / ODD / "images"), tmp_path / ODD / "läufe, train"
    size = ["data.height=64", "data.width=32"]
    data = ["data=folder", f"data.root={quoted(root)}", "data.camera_pattern='_c(\\d)'", *size, *QUIET]
    train = [*data, "data.batch_size=4", "trainer.max_epochs=1", "data.pack=decoded"]
    done = reidlit(
        "train", *train, f"hydra.run.dir={quoted(run)}", f"data.pack_dir={quoted(tmp_path / ODD / 'packed')}"
    )
    assert done.status == 0, done.err
    checkpoint = f"ckpt_path={quoted(run / 'checkpoints' / 'last.ckpt')}"
    tested = reidlit("test", *data, checkpoint, f"hydra.run.dir={quoted(tmp_path / ODD / 'test')}")
    assert tested.status == 0, tested.err
    mean_ap = [
        json.loads((path / "metrics.json").read_text())["test/images/mAP"] for path in (run, tmp_path / ODD / "test")
    ]
    assert mean_ap[0] == pytest.approx(mean_ap[1], abs=1e-6)
    features_file = tmp_path / ODD / "gehalten é.npz"
    done = reidlit(
        "extract", checkpoint, f"images={quoted(root)}", f"output={quoted(features_file)}", "hydra.run.dir=extract"
    )
    assert done.status == 0, done.err
    files = sorted(str(path) for path in root.rglob("*.jpg"))
    assert sorted(Features.load(features_file).path) == files
    search = [
        f"query={quoted(files[3])}",
        f"gallery={quoted(root)}",
        f"index={quoted(tmp_path / ODD / 'i.npz')}",
        "top_k=2",
    ]
    done = reidlit("search", checkpoint, *search, f"hydra.run.dir={quoted(tmp_path / ODD / 'search')}")
    assert done.status == 0, done.err
    assert str(root) in (tmp_path / ODD / "search" / "search.csv").read_text()
    done = reidlit("verify", checkpoint, "threshold=1", files[0], files[1], "hydra.run.dir=verify")
    assert done.status == 0, done.err


@pytest.mark.slow
def test_jumping_clock_does_not_change_training(reidlit, tmp_path, monkeypatch):
    """The clock repeatedly jumps back by a day and forward by a week, during training and between runs."""
    run = [*TRAIN, "test=false", "data.batch_size=4", "scheduler=constant", "transforms=flip_crop_erase"]
    uninterrupted = reidlit("train", *run, "hydra.run.dir=uninterrupted")
    assert uninterrupted.status == 0, uninterrupted.err
    clock = JumpingClock()
    for name in ("time", "time_ns"):
        monkeypatch.setattr(time, name, getattr(clock, name))
    assert reidlit("train", *run, "hydra.run.dir=runs/train/one", "trainer.max_epochs=1").status == 0
    last = tmp_path / "runs" / "train" / "one" / "checkpoints" / "last.ckpt"
    assert clock.calls > 0
    # Within a folder, `last` is its own checkpoint, although the file of another run is newer.
    other = tmp_path / "runs" / "train" / "other" / "checkpoints" / "last.ckpt"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"not of this run")
    os.utime(other, (2e9, 2e9))
    os.utime(last, (1e9, 1e9))
    resumed = reidlit("train", *run, "hydra.run.dir=runs/train/one", "ckpt_path=last")
    assert resumed.status == 0, resumed.err
    assert str(last) in resumed.out.replace("\n", "")
    expected, found = (
        torch.load(path, weights_only=True) for path in (tmp_path / "uninterrupted" / "checkpoints" / "last.ckpt", last)
    )
    assert found["global_step"] == expected["global_step"]
    assert all(torch.equal(tensor, found["state_dict"][key]) for key, tensor in expected["state_dict"].items())
    # In a new folder, `last` is the newest file of the other runs. Here it is not a checkpoint, and the error names it.
    refused = reidlit("train", *run, "hydra.run.dir=runs/train/two", "ckpt_path=last")
    assert refused.status == 1
    assert str(other) in refused.err


class JumpingClock:
    """Clock that jumps at every call."""

    def __init__(self):
        self.calls, self.real = 0, time.time

    def time(self):
        self.calls += 1
        return self.real() + (-86_400, 0, 604_800)[self.calls % 3]

    def time_ns(self):
        return int(self.time() * 1e9)


class KilledAtImage(Images):
    """Images whose DataLoader worker is killed at one image, as happens when memory runs out."""

    def _image(self, sample, seed):
        if torch.utils.data.get_worker_info() is not None and sample.path.endswith("0003_c1_01.jpg"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._image(sample, seed)


@pytest.mark.slow
def test_killed_worker_ends_training_with_one_message_and_training_resumes(reidlit, tmp_path, monkeypatch):
    run = [*TRAIN, "logger=csv", "test=false", "scheduler=constant", "hydra.run.dir=run"]
    assert reidlit("train", *run, "trainer.max_epochs=1").status == 0
    monkeypatch.setattr("reidlit.data.datamodule.Images", KilledAtImage)
    killed = reidlit("train", *run, "ckpt_path=last", "data.num_workers=1")
    assert killed.status == 1
    assert "Traceback" not in killed.err
    for text in ("DataLoader worker", "data.num_workers=0", "ckpt_path=last"):
        assert text in killed.err
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0
    done = reidlit("train", *run, "ckpt_path=last")
    assert done.status == 0, done.err


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_worker_killed_while_sending_a_batch_is_reported(error, reidlit, monkeypatch):
    """Torch notices the broken connection before it notices that the worker has died."""
    read = Connection.recv_bytes

    def broken(connection, *arguments):
        if parent_process() is None:
            raise error
        return read(connection, *arguments)

    monkeypatch.setattr("multiprocessing.connection.Connection.recv_bytes", broken)
    done = reidlit("train", *TRAIN, "logger=csv", "test=false", "data.num_workers=1")
    assert done.status == 1
    assert "DataLoader worker" in done.err
    assert "data.num_workers=0" in done.err


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_give_no_scores(value, checkpoint, reidlit):
    path = checkpoint()
    content = torch.load(path, weights_only=True)
    content["state_dict"]["model.neck.0.0.weight"][0, 0] = value
    torch.save(content, path)
    for command in (
        ["test", *TRAIN[:9], "callbacks.progress=null"],
        ["extract", "data=synthetic", *TRAIN[:6], "output=a.npz"],
    ):
        result = reidlit(*command, f"ckpt_path={path}", "hydra.run.dir=run")
        assert result.status == 1, result.out
        assert "NaN" in result.err
        assert not list(Path("run").glob("metrics.json"))
