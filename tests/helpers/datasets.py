"""What the tests of datasets share: options that a dataset needs, and tiny image files."""

from pathlib import Path

import numpy as np
from PIL import Image

from reidlit.data.samplers import RandomBatches
from reidlit.data.transforms import Resize
from reidlit.data.transforms.pipeline import Pipeline


def loading(**changes):
    """The options that every dataset takes."""
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
    """A tiny image file of one gray level; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 8, 3), gray, np.uint8)).save(path)
    return path


def ids(samples):
    """(pid, camid) of each sample."""
    return [(sample.pid, sample.camid) for sample in samples]
