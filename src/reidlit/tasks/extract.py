"""`reidlit extract`: embed a dataset or a folder of images and keep the result."""

from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from reidlit.data.listing import list_images_below
from reidlit.data.sample import Sample
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.features import COLUMNS, Features, Unfinished, of_samples
from reidlit.tasks import common
from reidlit.tasks.datasets import build_datamodule
from reidlit.tasks.extractor import build_extractor

UNKNOWN = -1  # identity and camera of images in a folder


def run(cfg: DictConfig) -> None:
    """Embed, and write the file.

    Raises:
        ValueError: if neither or both of `data` and `images` are given, or there is no image.
    """
    extractor = build_extractor(cfg)
    columns = _listed(cfg)
    file = Path(cfg.output).expanduser() if cfg.output else common.run_dir() / "features.npz"
    features = embed(extractor, columns, file)
    features.save(file)
    Unfinished.clear(file)
    common.say(f"{len(features):,} embeddings of {features.embedding.shape[1]} numbers: {file}")


def embed(extractor: FeatureExtractor, columns: dict[str, np.ndarray], file: Path) -> Features:
    """The embeddings of listed images; what a run before has made for `file` is taken over."""
    paths = columns["path"].tolist()
    made = Unfinished(file, paths, extractor.embedding_size, extractor.fingerprint)
    if made.done:
        common.say(f"going on after {made.done:,} of {len(paths):,} images")
    cameras = columns["camid"][made.done :] if extractor.uses_cameras else None
    parts = extractor.stream(paths[made.done :], cameras)
    made.fill((range(on.start + made.done, on.stop + made.done), part) for on, part in parts)
    return Features(np.array(made.embedding), **columns, fingerprint=extractor.fingerprint)


def _listed(cfg: DictConfig) -> dict[str, np.ndarray]:
    if (cfg.get("data") is None) == (cfg.images is None):
        raise ValueError("give data=<dataset> or images=<folder>.")
    if cfg.images is not None:
        files = list_images_below(Path(cfg.images).expanduser())
        if not files:
            raise ValueError(f"images={cfg.images} holds no image.")
        return of_samples([Sample(str(file), UNKNOWN, UNKNOWN) for file in files], "")
    datamodule = build_datamodule(cfg)
    datamodule.prepare_data()
    if unknown := [split for split in cfg.splits if split not in datamodule.splits]:
        raise ValueError(
            f"splits={list(cfg.splits)}: data={datamodule.name} has no {unknown}, but {datamodule.splits}."
        )
    parts = [of_samples(datamodule.listed(split), split) for split in cfg.splits]
    return {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS if name != "embedding"}
