"""Sizes, content digests and color statistics of images, each read once."""

import hashlib
import os
from collections.abc import Collection, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from reidlit.data.images import Read

CHUNK = 64  # images per task of a thread
SHOW_AFTER = 1  # seconds until the progress bar appears


class Measured(NamedTuple):
    """Measurements of one image.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        digest: Hash of the decoded pixels; it does not depend on the file format or metadata.
        mean: Mean of each channel (RGB), from 0 to 255.
        std: Standard deviation of each channel (RGB), from 0 to 255.
    """

    height: int
    width: int
    digest: bytes
    mean: Sequence[float]
    std: Sequence[float]


class Spread(NamedTuple):
    """Minimum, median and maximum of a list of values."""

    min: float
    median: float
    max: float


class Sizes(NamedTuple):
    """Distribution of image sizes in pixels; `aspect` is height / width."""

    height: Spread
    width: Spread
    aspect: Spread


class PooledPixels:
    """Mean and standard deviation over the pixels of all images together.

    Averaging the standard deviations of single images would ignore the differences between images.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum = np.zeros(3)
        self._squares = np.zeros(3)

    def add(self, image: Measured) -> None:
        """Add an image, weighted by its number of pixels."""
        pixels = image.height * image.width
        mean, std = np.asarray(image.mean), np.asarray(image.std)
        self.count += pixels
        self._sum += pixels * mean
        self._squares += pixels * (std**2 + mean**2)

    @property
    def mean(self) -> list[float]:
        """Mean of each channel (RGB), from 0 to 1."""
        return [float(value) for value in self._sum / self.count / 255]

    @property
    def std(self) -> list[float]:
        """Population standard deviation of each channel (RGB), from 0 to 1."""
        variance = self._squares / self.count - (self._sum / self.count) ** 2
        return [float(value) for value in np.sqrt(variance.clip(min=0)) / 255]


@dataclass
class Contents:
    """Measurements of a set of image files.

    Attributes:
        extent: Height and width in pixels, by path.
        digests: Hash of the pixels, by path.
        unreadable: Reason why an image cannot be read, by path; these paths are missing from the other attributes.
        pixels: Color statistics of the selected images.
    """

    extent: dict[str, tuple[int, int]] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    pixels: PooledPixels = field(default_factory=PooledPixels)


def read_all(paths: Collection[str], read: Read, pooled: Container[str]) -> Contents:
    """Read each image once, with one thread per core and a progress bar on a terminal.

    Args:
        paths: Paths of the images.
        read: Function from a path to an (H, W, 3) uint8 RGB image; it is called by several threads.
        pooled: Paths of the images that contribute to the color statistics.
    """
    contents = Contents()
    for path, image in _measure_all(list(paths), read):
        if isinstance(image, str):
            contents.unreadable[path] = image
            continue
        contents.extent[path] = (image.height, image.width)
        contents.digests[path] = image.digest
        if path in pooled:
            contents.pixels.add(image)
    return contents


def measure(path: str, read: Read) -> Measured:
    """Read and measure one image.

    Args:
        path: Path of the image.
        read: Function from a path to an (H, W, 3) uint8 RGB image.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If the file is not a valid image.
    """
    image = np.ascontiguousarray(read(path))
    height, width = image.shape[:2]
    digest = hashlib.blake2b(image.data, digest_size=16)
    digest.update(f"{height} x {width}".encode())
    mean, std = cv2.meanStdDev(image)
    return Measured(height, width, digest.digest(), mean.ravel().tolist(), std.ravel().tolist())


def _measure_all(paths: Sequence[str], read: Read) -> Iterator[tuple[str, Measured | str]]:
    """Yield each path, in order, with its measurements or the reason why it cannot be read."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with ThreadPoolExecutor(_cores(), thread_name_prefix="reidlit") as pool:
        try:
            results = chain.from_iterable(pool.map(lambda chunk: [_try(path, read) for path in chunk], chunks))
            progress = tqdm(results, "reading", len(paths), unit="image", delay=SHOW_AFTER, disable=None, leave=False)
            yield from zip(paths, progress, strict=True)
        finally:
            pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the remaining images


def sizes(images: Sequence[tuple[int, int]]) -> Sizes:
    """Summarize the (height, width) of at least one image."""
    height, width = np.array(images).T
    return Sizes(_spread(height), _spread(width), _spread(height / width))


def _spread(values: np.ndarray) -> Spread:
    return Spread(values.min().item(), float(np.median(values)), values.max().item())


def _try(path: str, read: Read) -> Measured | str:
    try:
        return measure(path, read)
    except FileNotFoundError:
        return "the file does not exist"
    except (OSError, ValueError) as error:
        return _reason(path, error)


def _reason(path: str, error: Exception) -> str:
    """Return the first sentence of an error without the path, which is reported separately."""
    sentence = str(error).replace(repr(path), "this file").partition(". ")[0]
    return sentence.removeprefix("Cannot read this file as an image: ").rstrip(".")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
