"""Comparison of exported files with the model: numerical differences and speed."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from reidlit.export.formats import EmbedImages, example, written_files

BATCHES = (1, 2, 7)  # batch sizes to compare
MIN_SECONDS = 0.5  # duration of each timing


class Difference(NamedTuple):
    """Difference between the embeddings of a file and of the model.

    Attributes:
        largest: Largest absolute difference, relative to the largest absolute value of all embeddings.
        cosine: Smallest cosine similarity between corresponding embeddings.
    """

    largest: float
    cosine: float


class Speed(NamedTuple):
    """Milliseconds per single image, images per second in batches, and size of the file in megabytes."""

    milliseconds: float
    images_per_second: float
    megabytes: float


def difference(
    run: EmbedImages, reference: EmbedImages, image_size: tuple[int, int], images: Tensor | None = None
) -> Difference:
    """Compare a file with the model, on random batches of 1, 2 and 7 images and on given images.

    Args:
        run: Function that runs the file.
        reference: Function that runs the model.
        image_size: Height and width in pixels.
        images: Images (N, 3, H, W), uint8. Real images activate a network differently from random ones.

    Raises:
        ValueError: If the file does not accept a batch, or returns another shape or values that are not finite.
    """
    batches = [example(image_size, count) for count in BATCHES]
    if images is not None and len(images):
        batches += list(torch.split(images, 64))
    outputs, expected = [], []
    for batch in batches:
        try:
            outputs.append(run(batch))
        except Exception as error:
            raise ValueError(
                f"The exported file does not accept {len(batch)} images: {str(error).splitlines()[0]}"
            ) from error
        expected.append(reference(batch))
        if outputs[-1].shape != expected[-1].shape or not torch.isfinite(outputs[-1]).all():
            raise ValueError(
                f"The exported file returns shape {tuple(outputs[-1].shape)} (expected: {tuple(expected[-1].shape)}) or "
                "values that are not finite: use another format=."
            )
    model_output, file_output = torch.cat(expected).double(), torch.cat(outputs).double()
    largest = float((model_output - file_output).abs().max() / model_output.abs().max().clamp(min=1e-12))
    return Difference(largest, float(torch.cosine_similarity(model_output, file_output).min()))


def speed(run: EmbedImages, path: Path, image_size: tuple[int, int], batch: int = 32) -> Speed:
    """Measure the median latency and throughput of a file, and its size."""
    one, many = (_seconds(run, example(image_size, count)) for count in (1, batch))
    return Speed(1000 * one, batch / many, sum(file.stat().st_size for file in written_files(path)) / 1e6)


def _seconds(run: EmbedImages, image: Tensor) -> float:
    timer = Timer("run(image)", globals={"run": run, "image": image}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=MIN_SECONDS).median)
