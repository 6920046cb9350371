"""What images are when each is read once: their sizes, their content and their colours."""

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

CHUNK = 64  # images that a thread reads at a time
SHOW_AFTER = 1  # seconds until the progress bar appears


class Measured(NamedTuple):
    """One image.

    `digest` is equal where the decoded pixels are equal, whatever the file's format and metadata. `mean` and `std` are of
    its pixels, a channel each (RGB), from 0 to 255.
    """

    height: int
    width: int
    digest: bytes
    mean: Sequence[float]
    std: Sequence[float]


class Spread(NamedTuple):
    """The ends and the middle of some values."""

    min: float
    median: float
    max: float


class Sizes(NamedTuple):
    """How large images are, in pixels; aspect is height / width."""

    height: Spread
    width: Spread
    aspect: Spread


class PooledPixels:
    """Mean and standard deviation over the pixels of many images, as if they were one image.

    The average of the images' own standard deviations would be too small: it leaves out that images differ.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum = np.zeros(3)
        self._squares = np.zeros(3)

    def add(self, image: Measured) -> None:
        """Take an image in; it weighs as much as it has pixels."""
        pixels = image.height * image.width
        mean, std = np.asarray(image.mean), np.asarray(image.std)
        self.count += pixels
        self._sum += pixels * mean
        self._squares += pixels * (std**2 + mean**2)

    @property
    def mean(self) -> list[float]:
        """Of each channel (RGB), from 0 to 1."""
        return [float(value) for value in self._sum / self.count / 255]

    @property
    def std(self) -> list[float]:
        """Likewise, of the population."""
        variance = self._squares / self.count - (self._sum / self.count) ** 2
        return [float(value) for value in np.sqrt(variance.clip(min=0)) / 255]


@dataclass
class Contents:
    """What was found in the files.

    Attributes:
        extent: height and width in pixels, by path.
        digests: equal for equal pictures, by path.
        unreadable: the reason, by path; these are in none of the others.
        pixels: the colours of the images that were asked for.
    """

    extent: dict[str, tuple[int, int]] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    pixels: PooledPixels = field(default_factory=PooledPixels)


def read_all(paths: Collection[str], read: Read, pooled: Container[str]) -> Contents:
    """Read all images once, a thread a core, with a progress bar on a terminal.

    Args:
        paths: Which.
        read: path -> (H, W, 3) uint8 RGB. It is called by several threads.
        pooled: The paths whose pixels are pooled.
    """
    contents = Contents()
    for path, image in _measure_all(paths, read):
        if isinstance(image, str):
            contents.unreadable[path] = image
            continue
        contents.extent[path] = (image.height, image.width)
        contents.digests[path] = image.digest
        if path in pooled:
            contents.pixels.add(image)
    return contents


def measure(path: str, read: Read) -> Measured:
    """Read one image.

    Args:
        path: Which.
        read: path -> (H, W, 3) uint8 RGB.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is no sound image.
    """
    image = np.ascontiguousarray(read(path))
    height, width = image.shape[:2]
    content = hashlib.blake2b(image.data, digest_size=16)
    content.update(f"{height} x {width}".encode())
    mean, std = cv2.meanStdDev(image)
    return Measured(height, width, content.digest(), mean.ravel().tolist(), std.ravel().tolist())


def _measure_all(paths: Collection[str], read: Read) -> Iterator[tuple[str, Measured | str]]:
    """Each path, in order, and what is there or why it cannot be read."""
    listed = list(paths)
    chunks = [listed[start : start + CHUNK] for start in range(0, len(listed), CHUNK)]
    with ThreadPoolExecutor(_cores(), thread_name_prefix="reidlit") as pool:
        try:
            found = chain.from_iterable(pool.map(lambda chunk: [_try(path, read) for path in chunk], chunks))
            progress = tqdm(found, "reading", len(listed), unit="image", delay=SHOW_AFTER, disable=None, leave=False)
            yield from zip(listed, progress, strict=True)
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for the images that are left


def sizes(images: Sequence[tuple[int, int]]) -> Sizes:
    """Summarise the (height, width) of at least one image."""
    height, width = np.array(images).T
    return Sizes(_spread(height), _spread(width), _spread(height / width))


def _spread(values: np.ndarray) -> Spread:
    return Spread(values.min().item(), float(np.median(values)), values.max().item())


def _try(path: str, read: Read) -> Measured | str:
    try:
        return measure(path, read)
    except FileNotFoundError:
        return "there is no such file"
    except (OSError, ValueError) as error:
        return _reason(path, error)


def _reason(path: str, error: Exception) -> str:
    """The first sentence of an error without the path, which is told beside it."""
    sentence = str(error).replace(repr(path), "this file").partition(". ")[0]
    return sentence.removeprefix("Cannot read this file as an image: ").rstrip(".")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
