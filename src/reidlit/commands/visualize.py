"""`reidlit visualize`: draw activation or attention maps of a model."""

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
from reidlit.foreign_files import expanded
from reidlit.inference.image_inputs import as_size, parse_image_size
from reidlit.inference.loading import TrainedModel
from reidlit.labels import UNKNOWN
from reidlit.visualize.activation_map import activation_map, find_layer
from reidlit.visualize.attention import attention_map, can_roll_out
from reidlit.visualize.faces import blurred
from reidlit.visualize.overlay import MapPanel, draw_maps

METHODS = ("auto", "activation", "attention")
MOST = 400  # images per picture
BATCH = 16


def run(cfg: DictConfig) -> None:
    """Draw the maps of some images into `visualize.png`.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If an argument is missing or invalid, there is no image, or the model does not support the method.
    """
    _check(cfg)
    trained = load(cfg, parse_image_size(cfg.image_size))
    if cfg.images is not None and trained.model.uses_cameras:
        raise ValueError(
            f"images={cfg.images} cannot be used, because the model needs the camera of each image: give "
            "data=<dataset>."
        )
    layer = _layer(cfg, trained)
    samples, read = _samples(cfg)
    indices = sorted(np.random.default_rng(cfg.seed).permutation(len(samples))[: cfg.count].tolist())
    panels: list[MapPanel] = []
    for start in range(0, len(indices), BATCH):
        batch = [samples[index] for index in indices[start : start + BATCH]]
        images = [as_size(read(first_frame(sample.path)), trained.image_size) for sample in batch]
        maps = _maps(trained, images, batch, layer)
        shown = [blurred(image) for image in images] if cfg.blur_faces else images
        panels += map(MapPanel, shown, maps, map(_caption, batch))
    method = "attention rollout" if layer is None else f"activation of {layer}"
    path = draw_maps(panels, current_run().path / "visualize.png", f"image | {method} | overlay; red: high")
    say(f"{method}, {len(panels)} of {len(samples):,} images: {path}")


def _check(cfg: DictConfig) -> None:
    """Check the settings before the model is loaded."""
    check_one_source(cfg, "image or folder")
    if cfg.images is not None:
        if not isinstance(cfg.images, str):
            raise ValueError(f"images={cfg.images} is invalid: must be one image or one folder.")
        if not expanded(cfg.images).exists():
            raise FileNotFoundError(f"images={cfg.images} does not exist: give an image or a folder of images.")
    if cfg.method not in METHODS:
        raise ValueError(f"method={cfg.method} is invalid: must be one of {', '.join(METHODS)}.")
    if cfg.layer is not None and cfg.method == "attention":
        raise ValueError(f"layer={cfg.layer} is only for method=activation: omit it with method=attention.")
    if not isinstance(cfg.count, int) or not 1 <= cfg.count <= MOST:
        raise ValueError(f"count={cfg.count} is invalid: must be an integer from 1 to {MOST}.")
    if not isinstance(cfg.seed, int) or cfg.seed < 0:
        raise ValueError(f"seed={cfg.seed} is invalid: must be a non-negative integer.")


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
    """Return the samples to choose from, and the function that reads their images."""
    if cfg.images is not None:
        return unlabelled_samples(image_files(cfg.images)), decode
    datamodule = build_datamodule(cfg)
    return dataset_samples(datamodule, [cfg.split], f"split={cfg.split}")[cfg.split], datamodule.reader()


def _maps(
    trained: TrainedModel, images: Sequence[NDArray[Any]], samples: Sequence[Sample], layer: str | None
) -> NDArray[Any]:
    """Return the maps (B, H, W) of images: activations of `layer`, or attention if it is None."""
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
