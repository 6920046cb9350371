"""Loading speed of video: tracklets per second and core from JPEG frames to batches, in Torchreid and in reidlit.

    python benchmarks/video.py [--output benchmarks/results/video.json]

The script generates frames of the sizes of MARS (256 x 128) and Market-1501 (128 x 64) in tracklets of 59 frames, the mean of
MARS. As in loader.py, it measures CPU time in one process with one thread; the candidates take turns, and medians over the
repetitions are reported. Torchreid's batches are normalized float tensors. Those of reidlit are uint8 and normalized on the
device, so one candidate adds the normalization. The floor is decoding each frame of a batch once.
"""

import argparse
import contextlib
import datetime
import io
import json
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate
from torchreid.reid.data.datasets.dataset import VideoDataset
from torchreid.reid.data.transforms import build_transforms

from loader import HEIGHT, LIBRARY, RECIPES, WIDTH, Figures, Job, cpu, measure, ratio, versions
from reidlit.data.clips import Clips
from reidlit.data.decode import decode
from reidlit.data.frame_sampling import even
from reidlit.data.sample import Draw, Sample
from reidlit.data.transforms.pipeline import select

FRAMES, SEQ_LEN, BATCH = 59, 15, 8
SIZES = {"mars": (256, 128), "market1501": (128, 64)}  # height and width of the files


class Peer(VideoDataset):  # type: ignore[misc]  # torchreid has no types
    """Torchreid's dataset of the same tracklets."""

    def __init__(self, samples: Sequence[Sample], names: list[str], sampling: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints every transform
            transform, _ = build_transforms(HEIGHT, WIDTH, names)
        super().__init__(
            *([tuple(sample) for sample in samples] for _ in range(3)),  # train, query, gallery
            seq_len=SEQ_LEN,
            sample_method=sampling,
            transform=transform,
            mode="train",
            verbose=False,
        )


def main() -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=24, help="tracklets")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "video.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as scratch:
        results = {
            "what": f"tracklets per second and core from JPEG frames to batches of {BATCH} clips of {SEQ_LEN} frames "
            "(CPU time, one process, one thread, files in the page cache)",
            "machine": {
                "cpu": cpu(),
                "cores": os.cpu_count(),
                "system": platform.system(),
                "load_before": round(os.getloadavg()[0], 1),  # other jobs use the same caches: trust ratios, not rates
            },
            "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
            "versions": versions(),
            "repetitions": arguments.repetitions,
            "files": {
                name: compare(draw(Path(scratch) / name, arguments.count, *size), arguments.repetitions)
                for name, size in SIZES.items()
            },
        }
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def compare(samples: list[Sample], repetitions: int) -> dict[str, object]:
    """Measure both libraries with both recipes and the two methods of frame sampling that they share."""
    names = [str(number) for number in range(len(samples))]  # `measure` counts these items
    decoding: dict[str, Job] = {
        "decode": lambda _: [decode(s.path[frame]).shape for s in samples for frame in even(FRAMES, SEQ_LEN)]
    }
    results: dict[str, object] = {"floor": rename_to_tracklets(measure(decoding, names, repetitions))}
    for recipe, steps in RECIPES.items():
        for sampling, our_sampling in (("evenly", "even"), ("random", "random")):
            peer = Peer(samples, steps, sampling)
            clips = Clips(samples, select(LIBRARY, ["resize", *steps]), seq_len=SEQ_LEN, sampling=our_sampling)  # type: ignore[arg-type]  # a literal
            figures = measure(jobs(peer, clips), names, repetitions)
            results[f"{recipe}, {sampling}"] = {
                **rename_to_tracklets(figures),
                "ratio": ratio(figures, "reidlit", "torchreid"),
                "ratio_normalised": ratio(figures, "reidlit_normalised", "torchreid"),
            }
    return results


def rename_to_tracklets(figures: dict[str, Figures]) -> dict[str, dict[str, object]]:
    """Rename the results of `measure`, which count tracklets instead of images."""
    return {
        name: {key.replace("images", "tracklets"): value for key, value in figure.items()}
        for name, figure in figures.items()
    }


def jobs(peer: Peer, clips: Clips) -> dict[str, Job]:
    """Return the job of each candidate, which makes batches of all tracklets."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)

    def ours(indices: range) -> Tensor:
        return clips.collate(clips.__getitems__([Draw(index, index) for index in indices]))["image"]

    return {
        "torchreid": in_batches(lambda indices: default_collate([peer[index] for index in indices])["img"]),
        "reidlit": in_batches(ours),
        "reidlit_normalised": in_batches(lambda indices: ours(indices).float().mul_(1 / (255 * std)).sub_(mean / std)),
    }


def in_batches(make: Callable[[range], Tensor]) -> Job:
    """Return a job that makes one batch after the other and drops it."""

    def job(paths: Sequence[str]) -> None:
        for start in range(0, len(paths), BATCH):
            make(range(start, min(start + BATCH, len(paths))))

    return job


def draw(folder: Path, count: int, height: int, width: int) -> list[Sample]:
    """Write tracklets of synthetic JPEG frames that are as complex as photographs for a decoder."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(count):
        tracklet_folder = folder / f"{number:04d}"
        tracklet_folder.mkdir(parents=True)
        frames = []
        for frame in range(FRAMES):
            blobs = cv2.resize(
                rng.integers(0, 256, (16, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
            )
            grain = rng.normal(0, 6, blobs.shape)
            frames.append(str(tracklet_folder / f"F{frame:04d}.jpg"))
            Image.fromarray((blobs + grain).clip(0, 255).astype(np.uint8)).save(frames[-1], quality=90)
        samples.append(Sample(tuple(frames), number, number % 2))
    return samples


if __name__ == "__main__":
    main()
