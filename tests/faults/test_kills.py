"""SIGKILL at any moment: files are whole, nothing that was finished is lost, and a training goes on to the same weights."""

import contextlib
import csv
import json
import os
import random
import signal
import time

import numpy as np
import pytest
import torch

from helpers.cli_settings import TRAIN
from helpers.launcher import Launcher
from reidlit.data.sample import Sample
from reidlit.engine.callbacks.checkpoint import AtomicCheckpointIO
from reidlit.files import write_json
from reidlit.inference.features import Features, of_samples
from reidlit.inference.search.gallery import Gallery

pytestmark = pytest.mark.timeout(3600)  # the long form
ROWS, SIZE = 2000, 512  # 4 MB a file


def save_checkpoint(path, number):
    AtomicCheckpointIO().save_checkpoint({"x": torch.full((ROWS, SIZE), float(number))}, path)


def save_gallery(path, number):
    gallery = Gallery()
    gallery.add(np.full((ROWS, SIZE), number, np.float32))
    gallery.save(path)


def save_features(path, number):
    about = of_samples([Sample("a.jpg", 0, 0)] * ROWS, "query")
    Features(np.full((ROWS, SIZE), number, np.float32), **about, fingerprint="abc").save(path)


def load_checkpoint(path):
    return torch.load(path, weights_only=True)["x"].numpy()


def load_gallery(path):
    gallery = Gallery.load(path)
    return gallery.embeddings(gallery.ids).numpy()


WRITERS = {
    "checkpoint": ("last.ckpt", save_checkpoint, load_checkpoint),
    "gallery": ("gallery.npz", save_gallery, load_gallery),
    "features": ("features.npz", save_features, lambda path: Features.load(path).embedding),
    "metrics": ("metrics.json", lambda path, n: write_json(path, {"x": [n] * 20_000}), lambda path: np.array(json.loads(path.read_text())["x"])),
}  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_is_whole_whenever_its_writer_is_killed(writer, tmp_path, long):
    """A child writes files with rising numbers, and tells after each; what it told of is there, or what came after."""
    name, save, load = WRITERS[writer]
    path, moments = tmp_path / name, random.Random(writer)
    last, within = 0, 0
    for _ in range(20 if long else 4):
        told = _killed_while_writing(save, path, last + 1, moments.uniform(0, 0.1))
        found = load(path)
        assert (found == found.flat[0]).all(), "a mixture"
        assert found.flat[0] >= told
        within += any(tmp_path.glob("*.part")) or any(tmp_path.glob(".*"))
        last = int(found.flat[0])
    save(path, last + 1)  # and what the killed have left is in nobody's way
    assert load(path).flat[0] == last + 1
    if long and writer != "metrics":  # which takes a millisecond
        assert within, "no kill met a write"


def _killed_while_writing(save, path, start, after):
    """The last number that a child has told of before it is killed, some time after the first."""
    read, write = os.pipe()
    child = os.fork()  # it only writes files, so it needs none of the threads
    if child == 0:
        with contextlib.suppress(BaseException):
            torch.set_num_threads(1)
            for number in range(start, start + 100_000):
                save(path, number)
                os.write(write, b"%d\n" % number)
        os._exit(1)
    os.close(write)
    try:
        told = os.read(read, 100)
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "it ended by itself"
        while more := os.read(read, 1 << 16):
            told += more
    finally:
        os.close(read)
    return int(told.split()[-1])


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    with Launcher(tmp_path_factory.mktemp("launched")) as started:
        yield started


def losses(folder):
    """The loss of each step that was logged, in all parts of a run."""
    found = {}
    for file in sorted(folder.glob("csv*/metrics.csv"), key=lambda path: path.stat().st_mtime_ns):
        with file.open(newline="") as rows:
            found |= {int(row["step"]): row["train/loss"] for row in csv.DictReader(rows) if row.get("train/loss")}
    return found


def step_of(path):
    """The step of a checkpoint, whole at any time; None before the first."""
    return torch.load(path, weights_only=True)["global_step"] if path.is_file() else 0


@pytest.mark.slow
def test_a_training_that_is_killed_again_and_again_ends_as_an_unbroken_one(launch, tmp_path, drawn, long):
    """Killed at random moments, many within an epoch, some while a checkpoint is written, and resumed each time."""
    kills, epochs = (20, 16) if long else (1, 2)
    run = [*TRAIN, f"trainer.max_epochs={epochs}", "data.batch_size=4", "test=false", "transforms=flip_crop_erase"]
    run += ["model/neck=dropout", "model.neck.p=0.3", "logger=csv", "trainer.log_every_n_steps=1"]
    run += [
        "callbacks.interim.every_n_train_steps=1",
        "callbacks.interim.train_time_interval=null",
        f"data.root={drawn}",
    ]
    steps, moments = 9 * epochs, random.Random(6)
    launch("train", *run, f"hydra.run.dir={tmp_path}/unbroken").end()
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    before = 0
    for kill in range(kills):
        resume = ["ckpt_path=last"] if kill else []
        running = launch("train", *run, *resume, f"hydra.run.dir={tmp_path}/killed")
        goal = min(before + moments.randint(1, max(2, steps // kills - 2)), steps - 2)
        while not last.is_file() or step_of(last) < goal:
            assert running.runs(), running.printed()
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.08))
        running.kill()
        reached = step_of(last)
        assert goal <= reached < steps, "the run ended before it was killed"
        before = reached
    launch("train", *run, "ckpt_path=last", f"hydra.run.dir={tmp_path}/killed").end()
    expected, found = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("unbroken", "killed")
    )
    assert found["global_step"] == expected["global_step"] == steps
    assert all(torch.equal(tensor, found["state_dict"][key]) for key, tensor in expected["state_dict"].items())
    assert len(list((tmp_path / "killed").glob("csv*"))) == kills + 1
    whole, parts = losses(tmp_path / "unbroken"), losses(tmp_path / "killed")
    assert len(whole) == steps
    missing = set(whole) - set(parts)
    assert not missing, f"not logged: steps {sorted(missing)} of {steps}"
    assert parts == whole


@pytest.mark.slow
@pytest.mark.parametrize("held_out", [0, 0.34])
def test_a_run_that_is_resumed_twice_does_no_step_twice(held_out, launch, tmp_path, drawn, long):
    """First from the last batch of an epoch, before the epoch has ended, and then from each step of the next."""
    if held_out and not long:
        pytest.skip("with validation in the long form")
    run = [
        *TRAIN,
        "trainer.max_epochs=3",
        "data.batch_size=8",
        "test=false",
        f"data.val_fraction={held_out}",
        "logger=csv",
    ]
    every = ["callbacks.interim.every_n_train_steps=1", "callbacks.interim.train_time_interval=null"]
    every += ["callbacks.interim.save_top_k=-1", "callbacks.interim.filename='{step}'"]

    def train(name, *arguments):
        launch("train", *run, *arguments, f"data.root={drawn}", f"hydra.run.dir={tmp_path}/{name}").end()
        return torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)

    expected = train("unbroken", *every, f"callbacks.interim.dirpath={tmp_path}/steps")
    steps = expected["global_step"] // 3
    train(
        "once", *every, f"callbacks.interim.dirpath={tmp_path}/more", f"ckpt_path='{tmp_path}/steps/step={steps}.ckpt'"
    )
    for step in range(steps + 1, 2 * steps + 2) if long else (steps + 2,):
        found = train("twice", "callbacks.interim=null", f"ckpt_path='{tmp_path}/more/step={step}.ckpt'")
        assert found["global_step"] == expected["global_step"], f"resumed at step {step}"
        assert all(torch.equal(tensor, found["state_dict"][key]) for key, tensor in expected["state_dict"].items())
