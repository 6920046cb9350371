"""`reidlit train` on two devices: same result as on one device, and a clean end if a rank dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from pytorch_lightning.strategies import FSDPStrategy

from helpers.cli_settings import TRAIN
from helpers.nested import flat
from reidlit.config import CONFIG_DIR
from reidlit.models import build_model

pytestmark = pytest.mark.timeout(900)  # four training runs precede the first test

# The model has no batch norm, because each rank computes its own statistics.
VIT = ["model=timm", "model.backbone.name=test_vit", "model/neck=no_neck"]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
RUN = [*TRAIN, *VIT, "loss=softmax_triplet", "sampler.num_instances=3", "optimizer=sgd", "optimizer.lr=0.05"]
RUN += ["transforms=flip_crop_erase", "logger=csv", "trainer.precision=64-true"]  # losses stay in float32
TESTS = str(Path(__file__).parents[1])  # folder of helpers.callbacks
ONE_THREAD = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(filter(None, [TESTS, os.environ.get("PYTHONPATH")])),
}


def weights(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def started(tmp_path_factory, drawn):
    """Return a function that starts `reidlit train` in a new process group, and the folder of the runs."""
    folder = tmp_path_factory.mktemp("runs")

    def start(name, *arguments, launcher=(sys.executable,)):
        return subprocess.Popen(
            [*launcher, "-m", "reidlit", "train", *arguments, f"data.root={drawn}", f"hydra.run.dir={folder / name}"],
            cwd=folder,
            env=ONE_THREAD,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return start, folder


@pytest.fixture(scope="module")
def runs(started):
    """Run the same training on one device, on two, on two with torchrun, and on two without gathering."""
    start, folder = started
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    for name, arguments, launcher in (
        ("one", (), (sys.executable,)),
        ("two", TWO, (sys.executable,)),
        ("torchrun", TWO, torchrun),
        ("alone", [*TWO, "engine.gather=false"], (sys.executable,)),
    ):
        running = start(name, *RUN, *arguments, launcher=launcher)
        printed, _ = running.communicate(timeout=400)
        assert running.returncode == 0, printed
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two", "torchrun"])
def test_two_devices_train_as_one(name, runs):
    """Covers sampler, augmentation, gathered losses, averaged gradients and the optimizer over two epochs."""
    one, two = weights(runs / "one"), weights(runs / name)
    fresh = build_model("timm/test_vit", num_classes=1).state_dict()
    assert one.keys() == two.keys()
    assert len(fresh) > 10
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-5, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")
    scores = [flat(json.loads((runs / run / "metrics.json").read_text())) for run in ("one", name)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4, abs=1e-6)
    assert sorted(path.name for path in runs.iterdir()) == ["alone", "one", "torchrun", "two"]


@pytest.mark.slow
def test_training_without_gathering_differs(runs):
    one, alone = weights(runs / "one"), weights(runs / "alone")
    assert max(float((one[key] - alone[key]).abs().max()) for key in one) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_killed_rank_ends_the_run(victim, started):
    start, folder = started
    running = start(f"killed{victim}", *RUN, *TWO, "trainer.max_epochs=1000", "trainer.log_every_n_steps=1")
    log = folder / f"killed{victim}" / "csv" / "metrics.csv"
    while not log.is_file():  # both ranks have started the training loop
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.1)
    ranks = [running.pid, *child_ranks(running.pid)]
    assert len(ranks) == 2
    os.kill(ranks[victim], signal.SIGKILL)
    printed, _ = running.communicate()  # returns when both ranks have exited
    assert running.returncode != 0, printed
    assert not any(alive(pid) for pid in ranks)


@pytest.mark.slow
def test_all_ranks_agree_on_the_best_checkpoint(started):
    start, folder = started
    best = ["callbacks=best", "data.val_fraction=0.34", "trainer.max_epochs=3", "test=false"]
    record = f"+callbacks.record={{_target_: helpers.callbacks.BestOfRank, folder: {folder}}}"
    running = start("best", *RUN, *TWO, *best, record)
    printed, _ = running.communicate(timeout=400)
    assert running.returncode == 0, printed
    ranks = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1]
    scores = ranks[0]["scores"]
    assert len(scores) == 3
    assert ranks[0]["best_score"] == max(scores)
    saved = torch.load(folder / "best" / "checkpoints" / "best.ckpt", weights_only=True)
    assert saved["epoch"] == scores.index(max(scores))


def alive(pid):
    """Return True if a process is running; a zombie does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def child_ranks(pid):
    """Return the ids of the child processes that are ranks of the training."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child) for child in children if b"LOCAL_RANK=1" in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    ]


def test_fsdp_wraps_the_blocks_of_a_vit():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", ["trainer=fsdp", "model=vit_reid"])
    strategy = instantiate(cfg.trainer.strategy)
    assert isinstance(strategy, FSDPStrategy)
    policy = strategy.kwargs["auto_wrap_policy"]
    model = build_model("timm/test_vit", num_classes=3)
    wrapped = policy._run_policy(model, set(), {})
    assert len(wrapped) == len(model.backbone.network.blocks)
