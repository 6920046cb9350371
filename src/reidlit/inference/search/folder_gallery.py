"""A gallery of the images of a folder, in a file that is brought up to date instead of being made anew."""

import os
import time
from hashlib import blake2b
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from reidlit.data.image_files import images_in_folder
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.search.gallery import Gallery

SAVE_EVERY = 120.0  # seconds


class FolderGallery(NamedTuple):
    """The gallery, and how many images were embedded, taken over, and dropped because they are gone or changed."""

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
    """Embed the images below a folder, save them, and take over those that the file knows with their size and time.

    What was embedded is kept when an image is broken or the program is stopped.

    Args:
        folder: of images, at any depth.
        file: a .npz file, there or not.
        extractor: embeds.
        metric: as of `Gallery`; None for that of the file, or `euclidean`.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if the folder holds no image, or the file is of other images, another model or another metric.
    """
    whole, kept = Path(os.path.abspath(folder)), Path(file).expanduser()  # noqa: PTH100 - links stay as they are
    files = images_in_folder(whole, "gallery")
    if kept.is_file():
        gallery = Gallery.load(kept, extractor=extractor)
        _check(gallery, kept, whole, metric)
    else:
        gallery = Gallery(extractor=extractor, metric=metric or "euclidean")
    wanted = {str(path): _stamp(path) for path in files}
    ids, stamps = gallery.ids, gallery.stamps.tolist()
    paths = gallery.about(ids).paths.tolist()
    gone = np.array([wanted.get(path) != stamp for path, stamp in zip(paths, stamps, strict=True)], np.bool_)
    known = dict(zip(paths, stamps, strict=True))
    new = {path: stamp for path, stamp in wanted.items() if known.get(path) != stamp}
    gallery.remove(ids[gone])
    if new or gone.any():
        try:
            _embed(gallery, new, extractor, kept)
        finally:
            gallery.save(kept)
    return FolderGallery(gallery, len(new), len(files) - len(new), int(gone.sum()))


def _embed(gallery: Gallery, new: dict[str, int], extractor: FeatureExtractor, file: Path) -> None:
    """Add images, and save now and then."""
    paths, stamps = list(new), list(new.values())
    saved = time.monotonic()
    for on, part in extractor.stream(paths):
        gallery.add(part, paths=paths[on.start : on.stop], stamps=stamps[on.start : on.stop])
        if time.monotonic() - saved > SAVE_EVERY:
            gallery.save(file)
            saved = time.monotonic()


def _check(gallery: Gallery, file: Path, folder: Path, metric: str | None) -> None:
    """Refuse to change a gallery that is of something else."""
    if metric not in (None, gallery.metric):
        raise ValueError(f"metric={metric!r}, but {str(file)!r} was made for {gallery.metric!r}.")
    below = os.path.join(folder, "")  # noqa: PTH118 - with a separator at the end
    if (gallery.stamps == 0).any() or not all(path.startswith(below) for path in gallery.about(gallery.ids).paths):
        raise ValueError(f"index={str(file)!r} keeps other images than those below {folder}; give another file.")


def _stamp(file: Path) -> int:
    """A number that changes with a file's size or time, and is not 0."""
    status = file.stat()
    digest = blake2b(f"{status.st_size} {status.st_mtime_ns}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1
