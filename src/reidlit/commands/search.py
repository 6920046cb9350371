"""`reidlit search`: find the gallery images nearest to a query."""

import zipfile
from pathlib import Path

from omegaconf import DictConfig

from reidlit.commands._extractor import build_extractor
from reidlit.commands._inputs import image_files
from reidlit.commands._search_results import Columns, draw_lists, list_nearest, print_lists, write_results
from reidlit.commands._settings import current_run
from reidlit.console import say
from reidlit.data.sample import unlabelled_samples
from reidlit.foreign_files import expanded
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.features import SUFFIXES, Features, of_samples
from reidlit.inference.search.folder_gallery import gallery_of_folder
from reidlit.inference.search.gallery import Gallery
from reidlit.metrics import KReciprocal


def run(cfg: DictConfig) -> None:
    """Search, print the nearest images, and write `search.csv` and `search.png`.

    Raises:
        FileNotFoundError: If the query or the gallery does not exist.
        ValueError: If an argument is missing or invalid, or query and gallery were embedded by different models.
    """
    _check_numbers(cfg)
    query_path, gallery_path = _path(cfg, "query"), _path(cfg, "gallery")
    # Files are read first, so that errors are reported before images are embedded.
    gallery = None if gallery_path.is_dir() else open_gallery(cfg, gallery_path)
    query = Features.load(query_path) if query_path.suffix in SUFFIXES else None
    files = image_files(cfg.query, "query") if query is None else []
    if query is None or gallery is None:
        extractor = build_extractor(cfg)
        query = embed(extractor, files) if query is None else query
        gallery = of_folder(cfg, gallery_path, extractor) if gallery is None else gallery
    elif cfg.ckpt_path is not None or cfg.weights is not None:
        raise ValueError("query and gallery already contain embeddings: omit ckpt_path and weights.")
    query = _of_split(query, "query")
    results = search(cfg, query, gallery)
    table, picture = current_run().path / "search.csv", current_run().path / "search.png"
    write_results(results, table)
    print_lists(query, results)
    say(f"all results: {table}")
    draw_lists(query, results, picture, cfg.pictures, cfg.blur_faces)


def embed(extractor: FeatureExtractor, files: list[Path]) -> Features:
    """Embed the images of a query."""
    columns = of_samples(unlabelled_samples(files), "")
    return Features(extractor(files).numpy(), **columns, fingerprint=extractor.fingerprint)


def open_gallery(cfg: DictConfig, path: Path) -> Gallery:
    """Read a saved gallery, or build one from a features file.

    Raises:
        ValueError: If `index` is given, the suffix is unknown, or the metric differs from that of the saved gallery.
    """
    if cfg.index is not None:
        raise ValueError(f"index={cfg.index} is for a gallery folder, but gallery={cfg.gallery} is a file: omit index.")
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"gallery={cfg.gallery} is invalid: must be a folder of images, or a file that ends in "
            f"{' or '.join(SUFFIXES)}."
        )
    if not _is_saved_gallery(path):
        gallery = Gallery(metric=cfg.metric or "euclidean")
        gallery.add(_of_split(Features.load(path), "gallery"))
        return gallery
    gallery = Gallery.load(path)
    if cfg.metric not in (None, gallery.metric):
        raise ValueError(
            f"metric={cfg.metric} is invalid: gallery={path} was saved with metric={gallery.metric}. Omit metric."
        )
    return gallery


def of_folder(cfg: DictConfig, folder: Path, extractor: FeatureExtractor) -> Gallery:
    """Embed a folder of images; embeddings of unchanged images are read from the index."""
    file = expanded(cfg.index) if cfg.index else current_run().path / "gallery.npz"
    gallery, embedded, reused, _ = gallery_of_folder(folder, file, extractor, cfg.metric)
    say(f"gallery: {embedded:,} images embedded, {reused:,} reused; index={file}")
    return gallery


def search(cfg: DictConfig, query: Features, gallery: Gallery) -> Columns:
    """Search with the options of `cfg`, for one entry more than `top_k`, because the query file itself is removed."""
    nearest = gallery.search(
        query,
        cfg.top_k + 1,
        cameras=None if cfg.cameras is None else list(cfg.cameras),
        not_cameras=None if cfg.not_cameras is None else list(cfg.not_cameras),
        cross_camera=cfg.cross_camera,
        centroid=cfg.centroid,
        rerank=KReciprocal() if cfg.rerank else None,
        rerank_top=cfg.rerank_top,
    )
    return list_nearest(query, gallery, nearest, cfg.top_k, keep_own=cfg.centroid)


def _check_numbers(cfg: DictConfig) -> None:
    for name, least in (("top_k", 1), ("rerank_top", 1), ("pictures", 0)):
        if not isinstance(cfg[name], int) or cfg[name] < least:
            raise ValueError(f"{name}={cfg[name]} is invalid: must be an integer of at least {least}.")


def _path(cfg: DictConfig, name: str) -> Path:
    if cfg[name] is None:
        raise ValueError(
            f"{name} is missing: give query=<image, folder or features> gallery=<folder, features or saved gallery>."
        )
    path = expanded(cfg[name])
    if not path.exists():
        raise FileNotFoundError(f"{name}={cfg[name]} does not exist.")
    return path


def _of_split(features: Features, split: str) -> Features:
    """Return the rows of a split, or all rows if there is no such split."""
    return features.of_split(split) if (features.split == split).any() else features


def _is_saved_gallery(file: Path) -> bool:
    """Return True if a file is a saved gallery, and False if it contains features."""
    if file.suffix != ".npz" or not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return "about.npy" in archive.namelist()
