"""`reidlit visualize`: draw where a model looks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from reidlit.commands._data import build_datamodule
from reidlit.commands._extractor import load
from reidlit.commands._inputs import check_one_source, dataset_samples, image_files
from reidlit.commands._settings import current_run
from reidlit.console import say
from reidlit.data.decode import decode
from reidlit.data.images import Read
from reidlit.data.sample import Sample, first_frame, readable, unlabelled_samples
from reidlit.inference.image_inputs import as_size, parse_image_size
from reidlit.inference.loading import TrainedModel
from reidlit.labels import UNKNOWN
from reidlit.visualize.activation_map import activation_map, find_layer
from reidlit.visualize.attention import attention_map, can_roll_out
from reidlit.visualize.faces import blurred
from reidlit.visualize.overlay import MapPanel, draw_maps

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
    trained = load(cfg, parse_image_size(cfg.image_size))
    if cfg.images is not None and trained.model.uses_cameras:
        raise ValueError(
            f"images={cfg.images}: this model must be told which camera took each image; give data=<dataset>."
        )
    layer = _layer(cfg, trained)
    samples, read = _samples(cfg)
    chosen = sorted(np.random.default_rng(cfg.seed).permutation(len(samples))[: cfg.count].tolist())
    panels: list[MapPanel] = []
    for start in range(0, len(chosen), BATCH):
        batch = [samples[index] for index in chosen[start : start + BATCH]]
        images = [as_size(read(first_frame(sample.path)), trained.image_size) for sample in batch]
        maps = _maps(trained, images, batch, layer)
        drawn = [blurred(image) for image in images] if cfg.blur_faces else images
        panels += map(MapPanel, drawn, maps, map(_caption, batch))
    what = "attention roll-out" if layer is None else f"activation of {layer}"
    path = draw_maps(panels, current_run().path / "visualize.png", f"image | {what} | overlay; red is high")
    say(f"{what}, {len(panels)} of {len(samples):,} images: {path}")


def _check(cfg: DictConfig) -> None:
    """Report mistakes before a model is loaded."""
    check_one_source(cfg, "image or folder")
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


def _layer(cfg: DictConfig, trained: TrainedModel) -> str | None:
    """Return the layer whose activation is drawn, or None to draw attention."""
    if cfg.method == "attention":
        return None
    if cfg.layer is not None:
        return str(cfg.layer)
    if cfg.method == "auto" and can_roll_out(trained.model, trained.image_size):
        return None
    return find_layer(trained.model, trained.image_size)


def _samples(cfg: DictConfig) -> tuple[Sequence[Sample], Read]:
    """Return the samples that may be drawn, and the function that reads their images."""
    if cfg.images is not None:
        return unlabelled_samples(image_files(cfg.images)), decode
    datamodule = build_datamodule(cfg)
    return dataset_samples(datamodule, [cfg.split], f"split={cfg.split}")[cfg.split], datamodule.reader()


def _maps(
    trained: TrainedModel, images: Sequence[NDArray[Any]], samples: Sequence[Sample], layer: str | None
) -> NDArray[Any]:
    """Return the maps (B, H, W) of images: the activation of a layer, or attention if it is None."""
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    camid = torch.tensor([sample.camid for sample in samples])
    if layer is None:
        return attention_map(trained.model, batch, camid).numpy()
    return activation_map(trained.model, batch, layer, camid).numpy()


def _caption(sample: Sample) -> str:
    name = readable(Path(first_frame(sample.path)).name)
    if sample.pid == UNKNOWN:
        return name
    return f"{name}\nid {sample.pid}, {f'cam {sample.camid + 1}' if sample.camid >= 0 else 'no camera'}"
