"""What the fault tests share: a short form, and a long one with REIDLIT_FAULTS=1 (`make test-faults`)."""

import os
import subprocess

import pytest
import torch

from reidlit.config import option
from reidlit.engine.reid import ReIDModule


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether the long form is wanted."""
    return bool(os.environ.get("REIDLIT_FAULTS"))


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a checkpoint of a small network that was not trained, with changes to what it says it is built of."""

    def write(name="saved.ckpt", beside=None, **settings):
        module = ReIDModule(
            model=option("model", "osnet_x0_25"),
            pids=[3, 5, 8],
            loss=option("loss", "softmax"),
            optimizer=option("optimizer", "amsgrad"),
            scheduler=option("scheduler", "constant"),
            image_size=[64, 32],
        )
        content = {
            "state_dict": module.state_dict(),
            "hyper_parameters": dict(module.hparams) | settings,
            "pytorch-lightning_version": "2.6.4",
            **(beside or {}),
        }
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of some megabytes; skips where that is not permitted."""
    mounted = []

    def mount(megabytes, name="disk"):
        folder = tmp_path / name
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small disk needs the right to mount one: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
