"""A gallery of the images in a folder, updated incrementally."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from reidlit.data.image_files import images_in_folder
from reidlit.files import file_stamp
from reidlit.foreign_files import expanded
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.search.gallery import Gallery
from reidlit.locks import locked

SAVE_EVERY = 120.0  # seconds between two saves


class FolderGallery(NamedTuple):
    """A gallery, and the numbers of images that were embedded, reused, and dropped because they changed or are gone."""

    gallery: Gallery
    embedded: int
    taken_over: int
    dropped: int


def gallery_of_folder(
    folder: str | Path,
    file: str | Path,
    extractor: FeatureExtractor,
    metric: Literal["euclidean", "cosine"] | None = None,
) -> FolderGallery:
    """Embed the new and changed images in a folder and save the gallery.

    Images with an unchanged size and modification time are not embedded again. Finished embeddings are saved even if an
    image is corrupt or the program is interrupted. If another process is updating the file, wait for that process.

    Args:
        folder: Folder of images, searched recursively.
        file: Gallery file (.npz), which may exist already.
        extractor: Feature extractor.
        metric: Metric of the gallery; None for the metric of the file, or `euclidean` for a new file.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If the folder contains no image, or the file belongs to other images, another model or another
            metric.
    """
    root, index_file = Path(os.path.abspath(folder)), expanded(file)  # noqa: PTH100 - keep symbolic links
    files = images_in_folder(root, "gallery")
    with locked(index_file, name="index"):
        return _updated(root, files, index_file, extractor, metric)


def _updated(
    root: Path,
    files: Sequence[Path],
    index_file: Path,
    extractor: FeatureExtractor,
    metric: Literal["euclidean", "cosine"] | None,
) -> FolderGallery:
    """Read the gallery file, update it for `files`, and save it."""
    if index_file.is_file():
        gallery = Gallery.load(index_file, extractor=extractor)
        _check(gallery, index_file, root, metric)
    else:
        gallery = Gallery(extractor=extractor, metric=metric or "euclidean")
    current_stamps = {str(path): file_stamp(path) for path in files}
    ids, stamps = gallery.ids, gallery.stamps.tolist()
    paths = gallery.about(ids).paths.tolist()
    outdated = np.array(
        [current_stamps.get(path) != stamp for path, stamp in zip(paths, stamps, strict=True)], np.bool_
    )
    stored_stamps = dict(zip(paths, stamps, strict=True))
    new_stamps = {path: stamp for path, stamp in current_stamps.items() if stored_stamps.get(path) != stamp}
    gallery.remove(ids[outdated])
    if new_stamps or outdated.any():
        try:
            _embed(gallery, new_stamps, extractor, index_file)
        finally:
            gallery.save(index_file)
    return FolderGallery(gallery, len(new_stamps), len(files) - len(new_stamps), int(outdated.sum()))


def _embed(gallery: Gallery, new_stamps: dict[str, int], extractor: FeatureExtractor, file: Path) -> None:
    """Add images, and save regularly."""
    paths, stamps = list(new_stamps), list(new_stamps.values())
    saved = time.monotonic()
    for span, embedding in extractor.stream(paths):
        gallery.add(embedding, paths=paths[span.start : span.stop], stamps=stamps[span.start : span.stop])
        if time.monotonic() - saved > SAVE_EVERY:
            gallery.save(file)
            saved = time.monotonic()


def _check(gallery: Gallery, file: Path, folder: Path, metric: str | None) -> None:
    """Raise an error if a gallery belongs to other images or has another metric."""
    if metric not in (None, gallery.metric):
        raise ValueError(
            f"metric={metric!r} does not match index={str(file)!r}, which uses {gallery.metric!r}: use this metric, or "
            "another file."
        )
    prefix = os.path.join(folder, "")  # noqa: PTH118 - adds the separator at the end
    if (gallery.stamps == 0).any() or not all(path.startswith(prefix) for path in gallery.about(gallery.ids).paths):
        raise ValueError(f"index={str(file)!r} does not belong to the images in {folder}: choose another file.")
