"""Speedup by packs: images per second and core from image files and from packed pixels to augmented batches.

    python benchmarks/packed.py [folder of .jpg] [--output benchmarks/results/packed.json]

Without a folder, the script generates 128 x 64 JPEG files. As in loader.py, it measures CPU time in one process with one thread;
the candidates take turns, and medians over the repetitions are reported. Images are read in random order as in training. All
files and packs are in the page cache. The speedup is larger on a cold or remote disk, because a pack avoids opening each image.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow
import torch
from torch import Tensor

from loader import HEIGHT, LIBRARY, RECIPES, WIDTH, Job, cpu, draw, in_batches, measure, ratio, versions
from reidlit.data.decode import decode
from reidlit.data.images import Read
from reidlit.data.pack_writer import pack
from reidlit.data.packed import Packed
from reidlit.data.transforms.pipeline import select

WORKERS = 4
MIB = 2**20


def main() -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", nargs="?", type=Path, help="JPEG files, e.g. Market-1501's bounding_box_train")
    parser.add_argument("--count", type=int, default=3000, help="images")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "packed.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or draw(Path(scratch), arguments.count)
        files = sorted(folder.glob("*.jpg"))
        if not files:
            raise SystemExit(f"folder={arguments.folder} contains no .jpg files.")
        paths = [str(path) for path in files[:: max(len(files) // arguments.count, 1)][: arguments.count]]
        sizes = [decode(path).shape[:2] for path in paths]
        file = Path(scratch) / "decoded.arrow"
        written = {"decoded": write(paths, file, folder)}
        random.Random(0).shuffle(paths)
        memory = shared(file, folder, paths)
        reads: dict[str, Read] = {"file": decode, "decoded": Packed(file, folder)}
        results = {
            "what": "images per second and core from file and packed pixels to augmented uint8 batches of 64 "
            "(CPU time, one process, one thread, everything in the page cache)",
            "machine": {
                "cpu": cpu(),
                "cores": os.cpu_count(),
                "system": platform.system(),
                "load_before": round(os.getloadavg()[0], 1),  # other jobs use the same caches: trust ratios, not rates
            },
            "date": datetime.now(tz=UTC).date().isoformat(),
            "versions": {**versions(), "pyarrow": pyarrow.__version__},
            "images": {
                "source": "synthetic" if arguments.folder is None else folder.resolve().name,
                "count": len(paths),
                "median_height_width": [int(v) for v in np.median(sizes, axis=0)],
                "output_height_width": [HEIGHT, WIDTH],
                "bytes": sum(Path(path).stat().st_size for path in paths),
            },
            "repetitions": arguments.repetitions,
            "packs": written,
            "memory": memory,
            "recipes": {name: recipe(names, reads, paths, arguments.repetitions) for name, names in RECIPES.items()},
            "read": compare({name: reading(read) for name, read in reads.items()}, paths, arguments.repetitions),
        }
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def write(paths: Sequence[str], file: Path, folder: Path) -> dict[str, float]:
    """Write a pack; return its size and the time."""
    wall, used = time.perf_counter(), time.process_time()
    pack(paths, file, folder)
    wall, used = time.perf_counter() - wall, time.process_time() - used
    size = file.stat().st_size
    return {
        "bytes": size,
        "size_by_files": round(size / sum(Path(path).stat().st_size for path in paths), 2),
        "cpu_microseconds_an_image": round(used / len(paths) * 1e6, 1),
        "wall_seconds": round(wall, 2),
    }


def recipe(names: list[str], reads: dict[str, Read], paths: Sequence[str], repetitions: int) -> dict[str, object]:
    """Measure one recipe with each source."""
    pipeline = select(LIBRARY, ["resize", *names])

    def batches(read: Read) -> Callable[[Sequence[str]], Tensor]:
        return lambda paths: torch.from_numpy(
            np.stack([pipeline(read(path), number) for number, path in enumerate(paths)])
        ).permute(0, 3, 1, 2)

    return compare({name: in_batches(batches(read)) for name, read in reads.items()}, paths, repetitions)


def reading(read: Read) -> Job:
    """Return a job that reads and copies images, because mapped pixels cost nothing until they are accessed."""
    return lambda paths: [read(path).copy().shape for path in paths]


def compare(jobs: dict[str, Job], paths: Sequence[str], repetitions: int) -> dict[str, object]:
    """Measure the sources in turn; return the results and the speedup of the pack."""
    figures = measure(jobs, paths, repetitions)
    return {**figures, "ratio_decoded": ratio(figures, "decoded", "file")}


def shared(file: Path, folder: Path, paths: Sequence[str]) -> dict[str, float] | None:
    """Measure the memory of several workers that read all pixels at the same time; None if not on Linux."""
    if platform.system() != "Linux":
        return None
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(WORKERS), context.SimpleQueue()
    workers = [
        context.Process(target=read_all, args=(file, folder, paths, barrier, results.put)) for _ in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    proportions, private = zip(*(results.get() for _ in workers), strict=True)
    for worker in workers:
        worker.join()
    return {
        "workers": WORKERS,
        "pack_mib": round(file.stat().st_size / MIB, 1),
        "resident_mib_of_the_pack_in_all_workers_together": round(sum(proportions), 1),
        "private_mib_a_worker": round(max(private), 1),
    }


def read_all(file: Path, folder: Path, paths: Sequence[str], barrier: Barrier, put: Callable[[Any], None]) -> None:
    """Read all pixels, wait for the other workers, and put the proportional and the private memory in MiB."""
    read = Packed(file, folder)
    before = anonymous()
    for path in paths:
        read(path).sum()
    barrier.wait()
    put((proportion(file), anonymous() - before))
    barrier.wait()  # keep the mapping until all workers have measured


def anonymous() -> float:
    """Return the memory of this process in MiB that is not backed by a file."""
    return kibibytes(Path("/proc/self/status").read_text(), "RssAnon") / 1024


def proportion(file: Path) -> float:
    """Return the resident MiB of a mapped file, with each page divided by the number of processes that map it."""
    _, _, mapped = Path("/proc/self/smaps").read_text().partition(str(file))
    return kibibytes(mapped, "Pss") / 1024


def kibibytes(text: str, field: str) -> int:
    """Return the first value of a field in a table of /proc."""
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main()
