"""Tracklets a second and core, from JPEG frames to a batch of clips: Torchreid's VideoDataset and ours on the same files.

    python benchmarks/video.py [--output benchmarks/results/video.json]

It draws its frames, as large as MARS's (256 x 128) and as Market-1501's (128 x 64), in tracklets of 59 frames, which is
MARS's mean. As in loader.py: one process, one thread, CPU time, the candidates in turn, medians over the repetitions.
Torchreid's batches are normalised float tensors; ours are uint8, which the model normalises on the device, so one
candidate adds that. Floor: decoding the frames that a batch shows, each once.
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
SIZES = {"mars": (256, 128), "market1501": (128, 64)}  # of the files, height and width


class Peer(VideoDataset):  # type: ignore[misc]  # torchreid has no types
    """Torchreid's dataset of these tracklets."""

    def __init__(self, samples: Sequence[Sample], names: list[str], sampling: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints every step
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
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=24, help="tracklets")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "video.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as scratch:
        results = {
            "what": f"tracklets a second and core, JPEG frames to batches of {BATCH} clips of {SEQ_LEN} frames "
            "(CPU time, one process, one thread, files in the page cache)",
            "machine": {
                "cpu": cpu(),
                "cores": os.cpu_count(),
                "system": platform.system(),
                "load_before": round(os.getloadavg()[0], 1),  # other jobs share caches: read ratios, not rates
            },
            "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
            "versions": versions(),
            "repetitions": arguments.repetitions,
            "files": {
                name: compared(draw(Path(scratch) / name, arguments.count, *size), arguments.repetitions)
                for name, size in SIZES.items()
            },
        }
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def compared(samples: list[Sample], repetitions: int) -> dict[str, object]:
    """Times both libraries on both ways to choose frames that they share, and on both recipes."""
    names = [str(number) for number in range(len(samples))]  # what `measure` counts
    decoding: dict[str, Job] = {
        "decode": lambda _: [decode(s.path[place]).shape for s in samples for place in even(FRAMES, SEQ_LEN)]
    }
    found: dict[str, object] = {"floor": of_tracklets(measure(decoding, names, repetitions))}
    for recipe, steps in RECIPES.items():
        for sampling, ours in (("evenly", "even"), ("random", "random")):
            peer = Peer(samples, steps, sampling)
            clips = Clips(samples, select(LIBRARY, ["resize", *steps]), seq_len=SEQ_LEN, sampling=ours)  # type: ignore[arg-type]  # both are names of it
            figures = measure(jobs(peer, clips), names, repetitions)
            found[f"{recipe}, {sampling}"] = {
                **of_tracklets(figures),
                "ratio": ratio(figures, "reidlit", "torchreid"),
                "ratio_normalised": ratio(figures, "reidlit_normalised", "torchreid"),
            }
    return found


def of_tracklets(figures: dict[str, Figures]) -> dict[str, dict[str, object]]:
    """The figures of `measure` under the name of what they count here."""
    return {
        name: {key.replace("images", "tracklets"): value for key, value in figure.items()}
        for name, figure in figures.items()
    }


def jobs(peer: Peer, clips: Clips) -> dict[str, Job]:
    """Batches of all tracklets in turn, by each candidate."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)

    def ours(places: range) -> Tensor:
        return clips.collate(clips.__getitems__([Draw(place, place) for place in places]))["image"]

    return {
        "torchreid": in_batches(lambda places: default_collate([peer[place] for place in places])["img"]),
        "reidlit": in_batches(ours),
        "reidlit_normalised": in_batches(lambda places: ours(places).float().mul_(1 / (255 * std)).sub_(mean / std)),
    }


def in_batches(make: Callable[[range], Tensor]) -> Job:
    """Makes and drops one batch after the other."""

    def job(paths: Sequence[str]) -> None:
        for start in range(0, len(paths), BATCH):
            make(range(start, min(start + BATCH, len(paths))))

    return job


def draw(folder: Path, count: int, height: int, width: int) -> list[Sample]:
    """Writes tracklets of JPEG frames that look like photographs to a decoder."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(count):
        where = folder / f"{number:04d}"
        where.mkdir(parents=True)
        frames = []
        for frame in range(FRAMES):
            blobs = cv2.resize(
                rng.integers(0, 256, (16, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
            )
            grain = rng.normal(0, 6, blobs.shape)
            frames.append(str(where / f"F{frame:04d}.jpg"))
            Image.fromarray((blobs + grain).clip(0, 255).astype(np.uint8)).save(frames[-1], quality=90)
        samples.append(Sample(tuple(frames), number, number % 2))
    return samples


if __name__ == "__main__":
    main()
