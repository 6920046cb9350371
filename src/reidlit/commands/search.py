"""`reidlit search`: who in a gallery looks like the person of a query?"""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from reidlit.commands._extractor import build_extractor
from reidlit.commands._settings import current_run
from reidlit.console import say
from reidlit.data.decode import decode
from reidlit.data.image_files import list_images_below
from reidlit.data.sample import Sample, readable
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.features import SUFFIXES, Features, of_samples
from reidlit.inference.search.folder_gallery import gallery_of_folder
from reidlit.inference.search.gallery import Gallery
from reidlit.labels import UNKNOWN
from reidlit.metrics import KReciprocal
from reidlit.tables import write_table
from reidlit.visualize.faces import blurring
from reidlit.visualize.ranked_list import RankedList, Shown, draw_ranked_lists

PRINTED = 3  # queries in the terminal
SHOWN = 20  # entries in a picture


class Model:
    """The model of a configuration, loaded when an image is to be embedded."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.loaded: FeatureExtractor | None = None

    def __call__(self) -> FeatureExtractor:
        """Load it, once."""
        if self.loaded is None:
            self.loaded = build_extractor(self.cfg)
        return self.loaded


def run(cfg: DictConfig) -> None:
    """Search, print the nearest, and leave `search.csv` and `search.png`.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if an argument is missing or out of range, or the query and the gallery are of different models.
    """
    for name, least in (("top_k", 1), ("rerank_top", 1), ("pictures", 0)):
        if not isinstance(cfg[name], int) or cfg[name] < least:
            raise ValueError(f"{name}={cfg[name]} must be an integer from {least}.")
    asked, searched = _path(cfg, "query"), _path(cfg, "gallery")
    model = Model(cfg)
    # What is quick to read comes first, so that a mistake is told before a folder is embedded.
    gallery = None if searched.is_dir() else open_gallery(cfg, searched)
    query = queries(cfg, asked, model)
    if gallery is None:
        gallery = of_folder(cfg, searched, model())
    if model.loaded is None and (cfg.ckpt_path is not None or cfg.weights is not None):
        raise ValueError("query= and gallery= hold embeddings already; leave out ckpt_path and weights.")
    columns = search(cfg, query, gallery)
    write_table(current_run().path / "search.csv", {name: _texts(column) for name, column in columns.items()})
    print_lists(query, columns)
    say(f"all results: {current_run().path / 'search.csv'}")
    draw(cfg, query, columns)


def queries(cfg: DictConfig, path: Path, model: Model) -> Features:
    """What `query` names."""
    if path.suffix in SUFFIXES:
        return _split(Features.load(path), "query")
    files = list_images_below(path) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"query={cfg.query} holds no image.")
    embedding = model()(files).numpy()
    columns = of_samples([Sample(str(file), UNKNOWN, UNKNOWN) for file in files], "")
    return Features(embedding, **columns, fingerprint=model().fingerprint)


def open_gallery(cfg: DictConfig, path: Path) -> Gallery:
    """The file that `gallery` names."""
    if cfg.index is not None:
        raise ValueError(f"index={cfg.index} keeps the embeddings of a folder, but gallery={cfg.gallery} is a file.")
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"gallery={cfg.gallery} must be a folder of images, or a file that ends in {' or '.join(SUFFIXES)}."
        )
    if _is_saved(path):
        return _of_metric(Gallery.load(path), cfg, path)
    gallery = Gallery(metric=cfg.metric or "euclidean")
    gallery.add(_split(Features.load(path), "gallery"))
    return gallery


def of_folder(cfg: DictConfig, folder: Path, extractor: FeatureExtractor) -> Gallery:
    """A folder of images; of those that the index knows as they are, the embeddings are taken from it."""
    file = Path(cfg.index).expanduser() if cfg.index else current_run().path / "gallery.npz"
    gallery, embedded, taken_over, _ = gallery_of_folder(folder, file, extractor, cfg.metric)
    say(f"gallery: {embedded:,} images embedded, {taken_over:,} known; index={file}")
    return gallery


def search(cfg: DictConfig, query: Features, gallery: Gallery) -> dict[str, NDArray[Any]]:
    """The columns of the results, a row for each query and rank; a query's own file is no answer to it."""
    found = gallery.search(
        query,
        cfg.top_k + 1,
        cameras=None if cfg.cameras is None else list(cfg.cameras),
        not_cameras=None if cfg.not_cameras is None else list(cfg.not_cameras),
        cross_camera=cfg.cross_camera,
        centroid=cfg.centroid,
        rerank=KReciprocal() if cfg.rerank else None,
        rerank_top=cfg.rerank_top,
    )
    own = found.ids < 0
    if not cfg.centroid:
        own |= _absolute(gallery.about(found.ids).paths) == _absolute(query.path)[:, None]
    order = own.argsort(axis=1, kind="stable")[:, : cfg.top_k]
    kept = ~np.take_along_axis(own, order, 1)
    ids, distance = (np.take_along_axis(values, order, 1)[kept] for values in found)
    which, place = np.nonzero(kept)
    if not len(ids):
        raise ValueError("no image of the gallery may be listed: see cameras, not_cameras and cross_camera.")
    about = gallery.about(ids)
    return {
        "query": which,
        "query_path": query.path[which],
        "rank": place + 1,
        "distance": distance,
        "path": about.paths.astype(str),
        "pid": about.pids,
        "camid": about.camids,
        "id": ids,
    }


def print_lists(query: Features, columns: dict[str, NDArray[Any]]) -> None:
    """Print the lists of the first queries."""
    labels = [name for name in ("pid", "camid") if (columns[name] >= 0).any()]
    for number in range(min(PRINTED, len(query))):
        table = Table("rank", "distance", *labels, title=readable(query.path[number]), title_justify="left")
        table.add_column("image", overflow="fold")
        for row in np.flatnonzero(columns["query"] == number):
            about = [str(columns[name][row]) for name in labels]
            name = readable(columns["path"][row]) or f"id {columns['id'][row]}"
            table.add_row(str(columns["rank"][row]), f"{columns['distance'][row]:.4g}", *about, name)
        Console().print(table, highlight=False, markup=False)
    if len(query) > PRINTED:
        say(f"the first {PRINTED} of {len(query):,} queries")


def draw(cfg: DictConfig, query: Features, columns: dict[str, NDArray[Any]]) -> None:
    """Draw the lists of the first queries, where their images are there."""
    lists = [_ranked(number, query, columns) for number in range(min(cfg.pictures, len(query)))]
    files = [shown.path for ranked in lists for shown in (ranked.query, *ranked.entries)]
    if missing := [path for path in files if not Path(path).is_file()]:
        say(
            f"no picture: {len(missing)} of {len(files)} images are not there, such as {readable(missing[0]) or 'one without a path'}"
        )
    elif lists:
        read = blurring(decode) if cfg.blur_faces else decode
        say(f"picture: {draw_ranked_lists(lists, current_run().path / 'search.png', 'reidlit search', read)}")


def _path(cfg: DictConfig, name: str) -> Path:
    if cfg[name] is None:
        raise ValueError(
            f"{name} is missing: give query=<image, folder or features> gallery=<folder, features or saved gallery>."
        )
    path = Path(cfg[name]).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{name}={cfg[name]} does not exist.")
    return path


def _of_metric(gallery: Gallery, cfg: DictConfig, file: Path) -> Gallery:
    if cfg.metric not in (None, gallery.metric):
        raise ValueError(f"metric={cfg.metric}, but {file} was made for metric={gallery.metric}; leave metric out.")
    return gallery


def _split(features: Features, split: str) -> Features:
    """One split of a dataset; all of anything else."""
    return features.of_split(split) if (features.split == split).any() else features


def _is_saved(file: Path) -> bool:
    """Whether a file is a saved gallery rather than features."""
    if file.suffix != ".npz" or not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return "about.npy" in archive.namelist()


def _absolute(paths: NDArray[Any]) -> NDArray[Any]:
    """Full paths, in the same shape; empty ones stay."""
    flat = [os.path.abspath(path) if path else "" for path in paths.reshape(-1).tolist()]  # noqa: PTH100 - links stay
    return np.array(flat, object).reshape(paths.shape)


def _ranked(number: int, query: Features, columns: dict[str, NDArray[Any]]) -> RankedList:
    pid = int(query.pid[number])
    rows = np.flatnonzero(columns["query"] == number)[:SHOWN]
    entries = []
    for row in rows.tolist():
        other = int(columns["pid"][row])
        match = other == pid if min(pid, other) >= 0 else None
        entries.append(
            Shown(columns["path"][row], other, int(columns["camid"][row]), float(columns["distance"][row]), match)
        )
    return RankedList(Shown(str(query.path[number]), pid, int(query.camid[number])), entries)


def _texts(column: NDArray[Any]) -> NDArray[Any]:
    return np.array([readable(value) for value in column.tolist()]) if column.dtype.kind == "U" else column
