"""Options and tiny image files for the tests of datasets."""

from pathlib import Path

import numpy as np
from PIL import Image

from reidlit.data.samplers import RandomBatches
from reidlit.data.transforms import Resize
from reidlit.data.transforms.pipeline import Pipeline


def loading(**changes):
    """Return the options that all datasets require, with changes."""
    steps = Pipeline([Resize(32, 16)])
    options = {
        "name": None,
        "train_transform": steps,
        "test_transform": steps,
        "sampler": RandomBatches,
        "batch_size": 2,
        "test_batch_size": 4,
        "num_workers": 0,
        "val_fraction": 0.0,
        "combineall": False,
        "k_tfm": 1,
        "pack": None,
        "pack_dir": "packed",
        "seed": 0,
    }
    return options | changes


def draw(path: Path, gray: int = 99) -> Path:
    """Write a tiny image of one gray level and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 8, 3), gray, np.uint8)).save(path)
    return path


def ids(samples):
    """Return (pid, camid) of each sample."""
    return [(sample.pid, sample.camid) for sample in samples]
