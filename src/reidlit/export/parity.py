"""Whether an exported file gives the model's embeddings, and how fast."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from reidlit.export.formats import EmbedImages, example, written_files

BATCHES = (1, 2, 7)
MIN_SECONDS = 0.5  # of each timing


class Difference(NamedTuple):
    """How far embeddings are from the model's.

    Attributes:
        largest: absolute difference of a number, relative to the largest number of all embeddings.
        cosine: the smallest cosine of an embedding with the model's.
    """

    largest: float
    cosine: float


class Speed(NamedTuple):
    """Milliseconds for one image, images a second in batches, and the size of the file in megabytes."""

    milliseconds: float
    images_per_second: float
    megabytes: float


def difference(
    run: EmbedImages, reference: EmbedImages, image_size: tuple[int, int], images: Tensor | None = None
) -> Difference:
    """Compare a file with the model, at batches of 1, 2 and 7 and on given images.

    Args:
        run: the file.
        reference: the model.
        image_size: height and width in pixels.
        images: (N, 3, H, W) uint8, real ones; noise excites a network otherwise.

    Raises:
        ValueError: if the file does not take a batch, or gives other shapes or what is not finite.
    """
    batches = [example(image_size, count) for count in BATCHES]
    if images is not None and len(images):
        batches += list(torch.split(images, 64))
    found, expected = [], []
    for batch in batches:
        try:
            found.append(run(batch))
        except Exception as error:
            raise ValueError(f"the file does not take {len(batch)} images: {str(error).splitlines()[0]}") from error
        expected.append(reference(batch))
        if found[-1].shape != expected[-1].shape or not torch.isfinite(found[-1]).all():
            raise ValueError(
                f"the file gives {tuple(found[-1].shape)} where the model gives {tuple(expected[-1].shape)}, or what is not "
                "finite."
            )
    ours, theirs = torch.cat(expected).double(), torch.cat(found).double()
    largest = float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-12))
    return Difference(largest, float(torch.cosine_similarity(ours, theirs).min()))


def speed(run: EmbedImages, path: Path, image_size: tuple[int, int], batch: int = 32) -> Speed:
    """Measure a file on this machine; medians."""
    one, many = (_seconds(run, example(image_size, count)) for count in (1, batch))
    return Speed(1000 * one, batch / many, sum(file.stat().st_size for file in written_files(path)) / 1e6)


def _seconds(run: EmbedImages, image: Tensor) -> float:
    timer = Timer("run(image)", globals={"run": run, "image": image}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=MIN_SECONDS).median)
