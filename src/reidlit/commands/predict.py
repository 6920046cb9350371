"""`reidlit predict`: predict the attributes of images and write them as a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch.utils.data import DataLoader
from tqdm import tqdm

from reidlit.commands._data import build_datamodule
from reidlit.commands._inputs import check_one_source, dataset_samples
from reidlit.commands._modules import load_attribute_module
from reidlit.commands._settings import checkpoint_path, current_run
from reidlit.console import say
from reidlit.data.image_files import images_in_folder
from reidlit.data.images import Images
from reidlit.data.sample import Sample, readable, unlabelled_samples
from reidlit.data.transforms import Resize
from reidlit.data.transforms.pipeline import Pipeline
from reidlit.engine.attributes import AttributeModule
from reidlit.engine.joint_attributes import JointAttributeModule
from reidlit.foreign_files import expanded
from reidlit.inference.device import find_device
from reidlit.locks import locked
from reidlit.tables import SUFFIXES, write_table

PROBABILITY = "_probability"  # suffix of column names


def run(cfg: DictConfig) -> None:
    """Predict and write a table with `path`, and the label (0 or 1) and the probability of each attribute.

    Raises:
        ValueError: If `ckpt_path` is missing or is not an attribute model, neither or both of `data` and `images` are
            given, or an option is out of range.
    """
    file = expanded(cfg.output) if cfg.output else current_run().path / "attributes.csv"
    _check(cfg, file)
    with locked(file, wait=False, name="output"):
        _predict(cfg, file)


def _predict(cfg: DictConfig, file: Path) -> None:
    path = checkpoint_path(cfg.ckpt_path)
    if path is None:
        raise ValueError(
            "ckpt_path=null is invalid: give a checkpoint of `reidlit train engine=attributes`, or ckpt_path=last."
        )
    module = load_attribute_module(path)
    samples = _samples(cfg)
    probabilities = predict(module, samples, cfg.batch_size, cfg.num_workers, find_device(cfg.device))
    names = module.hparams["attributes"]
    columns: dict[str, NDArray[np.generic]] = {"path": np.array([readable(str(sample.path)) for sample in samples])}
    for index, name in enumerate(names):
        columns[name] = (probabilities[:, index] >= cfg.threshold).astype(np.int8)
    for index, name in enumerate(names):
        columns[f"{name}{PROBABILITY}"] = probabilities[:, index]
    if len(columns) != 1 + 2 * len(names):
        raise ValueError(f"ckpt_path={path} has the attributes {names}, which would give duplicate column names.")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_table(file, columns)
    say(f"{len(names)} attributes of {len(samples):,} images: {file}")


def predict(
    module: AttributeModule | JointAttributeModule,
    samples: Sequence[Sample],
    batch_size: int,
    num_workers: int,
    device: torch.device,
) -> NDArray[np.float32]:
    """Predict the attributes of images, which are resized as in `reidlit test`.

    Args:
        module: Trained module; it is moved to `device`.
        samples: N images.
        batch_size: Images per batch.
        num_workers: DataLoader worker processes.
        device: Device of the model.

    Returns:
        (N, A) probabilities in [0, 1].
    """
    height, width = module.hparams["image_size"]
    images = Images(samples, Pipeline([Resize(height, width, exact=True)]))
    loader = DataLoader(images, batch_size, num_workers=num_workers, collate_fn=images.collate)
    module.to(device).eval()
    with torch.inference_mode():
        batches = [
            module.attribute_probabilities(batch["image"].to(device), batch["camid"].to(device)).cpu()
            for batch in tqdm(loader, desc="predicting", unit="batch")
        ]
    probabilities: NDArray[np.float32] = torch.cat(batches).numpy()
    return probabilities


def _check(cfg: DictConfig, file: Path) -> None:
    check_one_source(cfg)
    if not 0 < cfg.threshold < 1:
        raise ValueError(f"threshold={cfg.threshold} is invalid: must be greater than 0 and less than 1.")
    for name, least in (("batch_size", 1), ("num_workers", 0)):
        if cfg[name] < least:
            raise ValueError(f"{name}={cfg[name]} is invalid: must be at least {least}.")
    if file.suffix not in SUFFIXES:
        raise ValueError(f"output={file} is invalid: must end in {' or '.join(SUFFIXES)}.")


def _samples(cfg: DictConfig) -> list[Sample]:
    """Return the images without duplicates."""
    if cfg.images is not None:
        return unlabelled_samples(images_in_folder(cfg.images))
    samples = dataset_samples(build_datamodule(cfg), cfg.splits, f"splits={cfg.splits}")
    return list(dict.fromkeys(sample for listed in samples.values() for sample in listed))
