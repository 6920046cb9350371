"""SIGKILL at any moment: files stay valid, finished work is kept, and training resumes to the same weights."""

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
ROWS, SIZE = 2000, 512  # 4 MB per file


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
def test_file_is_valid_whenever_its_writer_is_killed(writer, tmp_path, long):
    """A child writes increasing numbers and reports each; the file contains the last reported number or a later one."""
    name, save, load = WRITERS[writer]
    path, moments = tmp_path / name, random.Random(writer)
    last, interrupted_writes = 0, 0
    for _ in range(20 if long else 4):
        reported = _kill_while_writing(save, path, last + 1, moments.uniform(0, 0.1))
        content = load(path)
        assert (content == content.flat[0]).all(), "a mixture of two files"
        assert content.flat[0] >= reported
        interrupted_writes += any(tmp_path.glob("*.part")) or any(tmp_path.glob(".*"))
        last = int(content.flat[0])
    save(path, last + 1)  # leftovers of killed writers do not matter
    assert load(path).flat[0] == last + 1
    if long and writer != "metrics":  # metrics are written within a millisecond
        assert interrupted_writes, "no kill interrupted a write"


def _kill_while_writing(save, path, start, delay):
    """Kill a writing child `delay` seconds after its first file; return the last number that it reported."""
    read, write = os.pipe()
    child = os.fork()  # safe although threads are not copied: the child only writes files
    if child == 0:
        with contextlib.suppress(BaseException):
            torch.set_num_threads(1)
            for number in range(start, start + 100_000):
                save(path, number)
                os.write(write, b"%d\n" % number)
        os._exit(1)
    os.close(write)
    try:
        reported = os.read(read, 100)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the child ended before it was killed"
        while more := os.read(read, 1 << 16):
            reported += more
    finally:
        os.close(read)
    return int(reported.split()[-1])


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    with Launcher(tmp_path_factory.mktemp("launched")) as started:
        yield started


def losses(folder):
    """Return the logged loss of each step, over all parts of a run."""
    loss_of_step = {}
    for file in sorted(folder.glob("csv*/metrics.csv"), key=lambda path: path.stat().st_mtime_ns):
        with file.open(newline="") as rows:
            loss_of_step |= {
                int(row["step"]): row["train/loss"] for row in csv.DictReader(rows) if row.get("train/loss")
            }
    return loss_of_step


def step_of(path):
    """Return the step of a checkpoint, or 0 if it does not exist yet."""
    return torch.load(path, weights_only=True)["global_step"] if path.is_file() else 0


@pytest.mark.slow
def test_repeatedly_killed_training_equals_uninterrupted_training(launch, tmp_path, drawn, long):
    """The run is killed at random moments, also mid-epoch and while a checkpoint is written, and always resumed."""
    kills, epochs = (20, 16) if long else (1, 2)
    run = [*TRAIN, f"trainer.max_epochs={epochs}", "data.batch_size=4", "test=false", "transforms=flip_crop_erase"]
    run += ["model/neck=dropout", "model.neck.p=0.3", "logger=csv", "trainer.log_every_n_steps=1"]
    run += [
        "callbacks.interim.every_n_train_steps=1",
        "callbacks.interim.train_time_interval=null",
        f"data.root={drawn}",
    ]
    steps, moments = 9 * epochs, random.Random(6)
    launch("train", *run, f"hydra.run.dir={tmp_path}/uninterrupted").end()
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    before = 0
    for kill in range(kills):
        resume = ["ckpt_path=last"] if kill else []
        running = launch("train", *run, *resume, f"hydra.run.dir={tmp_path}/killed")
        target_step = min(before + moments.randint(1, max(2, steps // kills - 2)), steps - 2)
        while not last.is_file() or step_of(last) < target_step:
            assert running.runs(), running.printed()
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.08))
        running.kill()
        reached = step_of(last)
        assert target_step <= reached < steps, "the run ended before it was killed"
        before = reached
    launch("train", *run, "ckpt_path=last", f"hydra.run.dir={tmp_path}/killed").end()
    expected, found = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("uninterrupted", "killed")
    )
    assert found["global_step"] == expected["global_step"] == steps
    assert all(torch.equal(tensor, found["state_dict"][key]) for key, tensor in expected["state_dict"].items())
    assert len(list((tmp_path / "killed").glob("csv*"))) == kills + 1
    expected_losses, resumed_losses = losses(tmp_path / "uninterrupted"), losses(tmp_path / "killed")
    assert len(expected_losses) == steps
    missing = set(expected_losses) - set(resumed_losses)
    assert not missing, f"not logged: steps {sorted(missing)} of {steps}"
    assert resumed_losses == expected_losses


@pytest.mark.slow
@pytest.mark.parametrize("held_out", [0, 0.34])
def test_run_resumed_twice_repeats_no_step(held_out, launch, tmp_path, drawn, long):
    """Resume after the last batch of an epoch, before the epoch ends, and then after each step of the next epoch."""
    if held_out and not long:
        pytest.skip("validation is tested in the long form")
    run = [
        *TRAIN,
        "trainer.max_epochs=3",
        "data.batch_size=8",
        "test=false",
        f"data.val_fraction={held_out}",
        "logger=csv",
    ]
    every_step = ["callbacks.interim.every_n_train_steps=1", "callbacks.interim.train_time_interval=null"]
    every_step += ["callbacks.interim.save_top_k=-1", "callbacks.interim.filename='{step}'"]

    def train(name, *arguments):
        launch("train", *run, *arguments, f"data.root={drawn}", f"hydra.run.dir={tmp_path}/{name}").end()
        return torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)

    expected = train("uninterrupted", *every_step, f"callbacks.interim.dirpath={tmp_path}/steps")
    steps = expected["global_step"] // 3
    train(
        "once",
        *every_step,
        f"callbacks.interim.dirpath={tmp_path}/more",
        f"ckpt_path='{tmp_path}/steps/step={steps}.ckpt'",
    )
    for step in range(steps + 1, 2 * steps + 2) if long else (steps + 2,):
        found = train("twice", "callbacks.interim=null", f"ckpt_path='{tmp_path}/more/step={step}.ckpt'")
        assert found["global_step"] == expected["global_step"], f"resumed at step {step}"
        assert all(torch.equal(tensor, found["state_dict"][key]) for key, tensor in expected["state_dict"].items())
