"""`reidlit visualize`: draw where a model looks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from reidlit.commands._data import build_datamodule
from reidlit.commands._extractor import load
from reidlit.commands._settings import current_run
from reidlit.console import say
from reidlit.data.decode import decode
from reidlit.data.image_files import list_images_below
from reidlit.data.images import Read
from reidlit.data.sample import Sample, first_frame, readable
from reidlit.inference.image_inputs import as_size
from reidlit.inference.loading import Trained
from reidlit.labels import UNKNOWN
from reidlit.visualize.activation_map import activation_map, find_layer
from reidlit.visualize.attention import attention_map, can_roll_out
from reidlit.visualize.faces import blurred
from reidlit.visualize.overlay import Triplet, draw_maps

METHODS = ("auto", "activation", "attention")
MOST = 400  # images that one picture shows
BATCH = 16


def run(cfg: DictConfig) -> None:
    """Draw the maps of some images into `visualize.png`.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if an argument is missing or out of range, there is no image, or the method is not for the model.
    """
    _check(cfg)
    trained = load(cfg, _size(cfg))
    if cfg.images is not None and trained.model.uses_cameras:
        raise ValueError(
            f"images={cfg.images}: this model must be told which camera took each image; give data=<dataset>."
        )
    attention, layer = _method(cfg, trained)
    samples, read = _listed(cfg)
    chosen = np.random.default_rng(cfg.seed).permutation(len(samples))[: cfg.count]
    triplets: list[Triplet] = []
    for start in range(0, len(chosen), BATCH):
        batch = [samples[index] for index in sorted(chosen.tolist())[start : start + BATCH]]
        images = [as_size(read(first_frame(sample.path)), trained.image_size) for sample in batch]
        maps = _maps(trained, images, batch, layer)
        shown = [blurred(image) for image in images] if cfg.blur_faces else images
        triplets += [Triplet(*each) for each in zip(shown, maps, map(_caption, batch), strict=True)]
    what = "attention roll-out" if attention else f"activation of {layer}"
    path = draw_maps(triplets, current_run().path / "visualize.png", f"image | {what} | overlay; red is high")
    say(f"{what}, {len(triplets)} of {len(samples):,} images: {path}")


def _check(cfg: DictConfig) -> None:
    """Tell mistakes before a model is loaded."""
    if (cfg.get("data") is None) == (cfg.images is None):
        raise ValueError("give data=<dataset> or images=<image or folder>.")
    if cfg.images is not None:
        if not isinstance(cfg.images, str):
            raise ValueError(f"images={cfg.images} must be one image, or one folder of images.")
        if not Path(cfg.images).expanduser().exists():
            raise FileNotFoundError(f"images={cfg.images} does not exist: give an image, or a folder of images.")
    if cfg.method not in METHODS:
        raise ValueError(f"method={cfg.method} must be one of {', '.join(METHODS)}.")
    if cfg.layer is not None and cfg.method == "attention":
        raise ValueError(f"layer={cfg.layer} is for method=activation; attention goes through all blocks.")
    if not isinstance(cfg.count, int) or not 1 <= cfg.count <= MOST:
        raise ValueError(f"count={cfg.count} must be an integer from 1 to {MOST}.")
    if not isinstance(cfg.seed, int) or cfg.seed < 0:
        raise ValueError(f"seed={cfg.seed} must be an integer from 0.")


def _size(cfg: DictConfig) -> tuple[int, int] | None:
    if cfg.image_size is None:
        return None
    size = list(cfg.image_size) if OmegaConf.is_list(cfg.image_size) else []
    if len(size) != 2 or not all(isinstance(side, int) and side >= 1 for side in size):
        raise ValueError(f"image_size={cfg.image_size} must be [height, width] in pixels, or null.")
    return size[0], size[1]


def _method(cfg: DictConfig, trained: Trained) -> tuple[bool, str | None]:
    """Whether attention is drawn, and the layer whose activation it is otherwise."""
    if cfg.method == "attention":
        return True, None
    if cfg.layer is not None:
        return False, str(cfg.layer)
    if cfg.method == "auto" and can_roll_out(trained.model, trained.image_size):
        return True, None
    return False, find_layer(trained.model, trained.image_size)


def _listed(cfg: DictConfig) -> tuple[Sequence[Sample], Read]:
    """What may be drawn, and what reads it."""
    if cfg.images is not None:
        path = Path(cfg.images).expanduser()
        files = list_images_below(path) if path.is_dir() else [path]
        if not files:
            raise ValueError(f"images={cfg.images} holds no image.")
        return [Sample(str(file), UNKNOWN, UNKNOWN) for file in files], decode
    datamodule = build_datamodule(cfg)
    datamodule.prepare_data()
    if cfg.split not in datamodule.splits:
        raise ValueError(f"split={cfg.split}: data={datamodule.name} has no such split, but {datamodule.splits}.")
    return datamodule.listed(cfg.split), datamodule.reader()


def _maps(
    trained: Trained, images: Sequence[NDArray[Any]], samples: Sequence[Sample], layer: str | None
) -> NDArray[Any]:
    """The map (H, W) of each image; of attention where there is no layer."""
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    camid = torch.tensor([sample.camid for sample in samples])
    if layer is None:
        found = attention_map(trained.model, batch, camid)
    else:
        found = activation_map(trained.model, batch, layer, camid)
    return found.numpy()


def _caption(sample: Sample) -> str:
    name = readable(Path(first_frame(sample.path)).name)
    if sample.pid == UNKNOWN:
        return name
    return f"{name}\nid {sample.pid}, {f'cam {sample.camid + 1}' if sample.camid >= 0 else 'no camera'}"
