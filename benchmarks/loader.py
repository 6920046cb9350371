"""Loading speed: images per second and core from JPEG files to augmented tensors, in Torchreid and in reidlit.

    python benchmarks/loader.py [folder of .jpg] [--output benchmarks/results/loader.json]

Without a folder, the script generates 128 x 64 JPEG files. It runs in one process with one thread and measures CPU time, so
that other jobs on the machine matter less. The candidates take turns, and medians over the repetitions are reported. The results
differ in format: Torchreid returns a normalized float tensor, reidlit a uint8 tensor that the model normalizes on the device. One
candidate therefore adds the normalization, as if the CPU were the device.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import io
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import albumentations
import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchreid.reid.data.transforms import build_transforms
from torchreid.reid.utils.tools import read_image

from reidlit.data.decode import decode
from reidlit.data.transforms import Random2DTranslation, RandomErasing, Resize, resize
from reidlit.data.transforms.pipeline import select

HEIGHT, WIDTH, BATCH = 256, 128, 64
LIBRARY = {
    "resize": Resize(HEIGHT, WIDTH),
    "random_flip": albumentations.HorizontalFlip(p=0.5),
    "random_crop": Random2DTranslation(HEIGHT, WIDTH),
    "random_erase": RandomErasing(),
}
RECIPES = {"flip": ["random_flip"], "flip_crop_erase": ["random_flip", "random_crop", "random_erase"]}
Job = Callable[[Sequence[str]], object]


class Figures(TypedDict):
    """Speed of one candidate: medians, and the range over the repetitions."""

    images_per_second: float
    microseconds: float
    microseconds_min_max: list[float]


def main() -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", nargs="?", type=Path, help="JPEG files, e.g. Market-1501's bounding_box_train")
    parser.add_argument("--count", type=int, default=600, help="images")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "loader.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as scratch:
        files = sorted((arguments.folder or draw(Path(scratch), arguments.count)).glob("*.jpg"))
        if not files:
            raise SystemExit(f"folder={arguments.folder} contains no .jpg files.")
        paths = [str(path) for path in files[:: max(len(files) // arguments.count, 1)][: arguments.count]]
        sizes = [decode(path).shape[:2] for path in paths]
        results = {
            "what": "images per second and core from JPEG file to augmented tensor (CPU time, one process, one thread)",
            "ends_in": {
                "torchreid": "float32 CHW, normalized, one image",
                "reidlit": "uint8 HWC memory viewed as CHW, one image; the model normalizes on the device",
                "*_batch": "the same, stacked in batches of 64, as returned by a worker of the loader",
                "reidlit_batch_normalised": "the batch converted to float32 and normalized on the same core",
            },
            "machine": {
                "cpu": cpu(),
                "cores": os.cpu_count(),
                "system": platform.system(),
                "load_before": round(os.getloadavg()[0], 1),  # other jobs use the same caches: trust ratios, not rates
            },
            "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
            "versions": versions(),
            "images": {
                "source": "synthetic" if arguments.folder is None else arguments.folder.resolve().name,
                "count": len(paths),
                "median_height_width": [int(v) for v in np.median(sizes, axis=0)],
                "output_height_width": [HEIGHT, WIDTH],
            },
            "repetitions": arguments.repetitions,
            "recipes": {name: recipe(names, paths, arguments.repetitions) for name, names in RECIPES.items()},
            "floor": floor(paths, arguments.repetitions),
        }
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def recipe(names: list[str], paths: Sequence[str], repetitions: int) -> dict[str, object]:
    """Measure both libraries on one recipe."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every transform
        theirs, _ = build_transforms(HEIGHT, WIDTH, names)
    pipeline = select(LIBRARY, ["resize", *names])

    def their_image(_: int, path: str) -> Tensor:
        tensor: Tensor = theirs(read_image(path))
        return tensor

    def our_array(number: int, path: str) -> np.ndarray[Any, Any]:
        return pipeline(decode(path), number)

    def their_batch(paths: Sequence[str]) -> Tensor:
        return torch.stack([their_image(number, path) for number, path in enumerate(paths)])

    def our_batch(paths: Sequence[str]) -> Tensor:
        arrays = [our_array(number, path) for number, path in enumerate(paths)]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)

    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)

    def our_normalised_batch(paths: Sequence[str]) -> Tensor:
        return our_batch(paths).float().mul_(1 / (255 * std)).sub_(mean / std)

    def their_tensors(paths: Sequence[str]) -> None:
        for number, path in enumerate(paths):
            their_image(number, path)

    def our_tensors(paths: Sequence[str]) -> None:
        for number, path in enumerate(paths):
            torch.from_numpy(our_array(number, path)).permute(2, 0, 1)

    jobs: dict[str, Job] = {
        "torchreid": their_tensors,
        "reidlit": our_tensors,
        "torchreid_batch": in_batches(their_batch),
        "reidlit_batch": in_batches(our_batch),
        "reidlit_batch_normalised": in_batches(our_normalised_batch),
    }
    figures = measure(jobs, paths, repetitions)
    return {
        **figures,
        "ratio_image": ratio(figures, "reidlit", "torchreid"),
        "ratio_batch": ratio(figures, "reidlit_batch", "torchreid_batch"),
        "ratio_batch_normalised": ratio(figures, "reidlit_batch_normalised", "torchreid_batch"),
    }


def in_batches(make: Callable[[Sequence[str]], Tensor]) -> Job:
    """Return a job that makes one batch after the other and drops it."""

    def job(paths: Sequence[str]) -> None:
        for start in range(0, len(paths), BATCH):
            make(paths[start : start + BATCH])

    return job


def ratio(figures: dict[str, Figures], ours: str, theirs: str) -> float:
    """Return the speed of reidlit relative to Torchreid."""
    return round(figures[theirs]["microseconds"] / figures[ours]["microseconds"], 2)


def floor(paths: Sequence[str], repetitions: int) -> dict[str, Figures]:
    """Measure decoding and resizing, which every pipeline needs."""
    images = [decode(path) for path in paths]
    pictures = [Image.fromarray(image) for image in images]
    jobs: dict[str, Job] = {
        "decode": lambda paths: [decode(path).shape for path in paths],
        "decode_pillow": lambda paths: [read_image(path).size for path in paths],
        "resize": lambda _: [resize(image, HEIGHT, WIDTH).shape for image in images],
        "resize_pillow": lambda _: [p.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR).size for p in pictures],
    }
    return measure(jobs, paths, repetitions)


def measure(jobs: dict[str, Job], paths: Sequence[str], repetitions: int) -> dict[str, Figures]:
    """Run the jobs in turn and measure them; the first round is a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for repetition in range(repetitions + 1):
        for name, job in jobs.items():
            start = time.process_time()
            job(paths)
            if repetition:
                times[name].append((time.process_time() - start) / len(paths))
    return {
        name: Figures(
            images_per_second=round(1 / statistics.median(seconds), 1),
            microseconds=round(statistics.median(seconds) * 1e6, 1),
            microseconds_min_max=[round(min(seconds) * 1e6, 1), round(max(seconds) * 1e6, 1)],
        )
        for name, seconds in times.items()
    }


def draw(folder: Path, count: int) -> Path:
    """Write synthetic JPEG files of the size of Market-1501: 128 x 64 pixels, about 3 kB."""
    rng = np.random.default_rng(0)
    for number in range(count):
        blobs = cv2.resize(rng.integers(0, 256, (16, 8, 3), np.uint8), (64, 128), interpolation=cv2.INTER_CUBIC)
        grain = rng.normal(0, 6, blobs.shape)
        Image.fromarray((blobs + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{number:05d}.jpg", quality=90)
    return folder


def cpu() -> str:
    """Return the name of the processor."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def versions() -> dict[str, str]:
    """Return the versions of Python and the measured packages."""
    packages = ["torchreid", "torch", "torchvision", "pillow", "albumentations", "opencv-python-headless", "numpy"]
    installed = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[package] = importlib.metadata.version(package)
    return installed


if __name__ == "__main__":
    main()
