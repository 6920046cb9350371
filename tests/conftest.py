"""What many tests share."""

import os
from pathlib import Path

import pytest
import torch
from torchreid.reid import models as torchreid_models

os.environ.setdefault("WANDB_MODE", "offline")


@pytest.fixture(autouse=True, scope="session")
def _two_threads():
    """The suite is sized for two cores; more threads than cores only wait for each other."""
    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    """A data root that all tests draw their synthetic images into once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def torchreid_model():
    """Builds a randomly initialised model of Torchreid, the oracle."""

    def build(name: str, num_classes: int = 20, loss: str = "softmax", seed: int = 0):
        torch.manual_seed(seed)
        return torchreid_models.build_model(name, num_classes, loss=loss, pretrained=False, use_gpu=False)

    return build
