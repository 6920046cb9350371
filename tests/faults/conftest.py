"""Fixtures of the fault tests, which have a short form and a long form (`make test-faults`, REIDLIT_FAULTS=1)."""

import os
import subprocess

import pytest
import torch

from reidlit.config import option
from reidlit.engine.reid import ReIDModule


@pytest.fixture(scope="session")
def long() -> bool:
    """Return True if the long form of the tests is requested."""
    return bool(os.environ.get("REIDLIT_FAULTS"))


@pytest.fixture
def checkpoint(tmp_path):
    """Return a function that saves a checkpoint of a small untrained network with modified hyperparameters."""

    def write(name="saved.ckpt", other_keys=None, **settings):
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
            **(other_keys or {}),
        }
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def small_disk(tmp_path):
    """Return a function that mounts a file system of a few megabytes; skip the test if that is not permitted."""
    mounted = []

    def mount(megabytes, name="disk"):
        folder = tmp_path / name
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting a small disk is not permitted: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
