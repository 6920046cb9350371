"""Time of an exact search on the CPU, compared with FAISS's flat index and the bare matrix product.

    python benchmarks/search.py [--gallery 1000000] [--queries 1000] [--k 10] [--rounds 5] [--forms reidlit,faiss_flat]

Each form runs in its own process and holds the gallery once. The forms take turns in several rounds, and medians are reported.
The floor is the product of all queries with all rows by the fastest available library, one block of the gallery at a time into
one buffer. A search for a single query is measured too; it reads the gallery and computes almost nothing. `--approximate` adds the
gallery of reidlit with a FAISS index, and its recall relative to the exact search.

Features are random around the center of each identity, with variances that decrease over the dimensions. OpenBLAS chooses its
kernels for the processor; if OPENBLAS_CORETYPE is set, run with `env -u OPENBLAS_CORETYPE`.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation import machine, versions
from reidlit import Gallery
from reidlit.metrics._ranking.matmul import ROWS, by_numpy, by_torch

DIMENSIONS = 512
IMAGES = 20  # images per identity
BLOCK = 2**16  # rows generated at a time
REPETITIONS = 3  # per process
RESULTS = Path(__file__).parent / "results" / "search.json"
Array = NDArray[np.float32]
Search = Callable[[Array], NDArray[np.int64]]


def main() -> None:
    """Run the measurements and write the results; a child process measures one form once."""
    arguments = parse()
    if arguments.child:
        form, work = arguments.child
        print(json.dumps(child(form, Path(work), arguments)))
        return
    forms = [*arguments.forms.split(","), *(["reidlit_faiss"] if arguments.approximate else [])]
    with tempfile.TemporaryDirectory() as work:
        runs: dict[str, list[dict[str, float]]] = {form: [] for form in forms}
        for _ in range(arguments.rounds):
            for form in forms:
                command = [sys.executable, __file__, *sys.argv[1:], "--child", form, work]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                runs[form].append(json.loads(done.stdout.splitlines()[-1]))
                print(form, runs[form][-1], flush=True)
        results = {
            "what": f"wall seconds of a search for the {arguments.k} nearest neighbors of {arguments.queries:,} queries, and "
            f"of one query, among {arguments.gallery:,} features of {DIMENSIONS} float32 values, on the CPU, medians",
            "machine": machine(),
            "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
            "versions": versions() | {"faiss-cpu": importlib.metadata.version("faiss-cpu")},
            "rounds": arguments.rounds,
            "forms": {
                form: {name: spread([run[name] for run in form_runs]) for name in form_runs[0]}
                for form, form_runs in runs.items()
            },
            "same_neighbours": agreement(Path(work), [form for form in forms if form != "floor"]),
        }
    medians = {form: figures["seconds"]["median"] for form, figures in results["forms"].items()}
    for other in ("floor", "faiss_flat"):
        if {other, "reidlit"} <= set(medians):
            results[f"reidlit_to_{other}"] = round(medians["reidlit"] / medians[other], 2)
    print(json.dumps(results, indent=2))
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--forms", default="floor,reidlit,faiss_flat")
    parser.add_argument("--approximate", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def child(form: str, work: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Measure one form and save the neighbors."""
    query = next(random_features(arguments.queries, seed=1))
    start = time.perf_counter()
    search = {"floor": floor, "reidlit": ours, "reidlit_faiss": ours_with_faiss, "faiss_flat": faiss_flat}[form](
        arguments
    )
    prepare = time.perf_counter() - start
    neighbors = search(query)  # compiles, builds an index, and starts the threads
    figures = {"prepare": prepare, "seconds": timed(search, query), "seconds_one_query": timed(search, query[:1])}
    if form != "floor":
        np.save(work / f"{form}.npy", neighbors)
    if form == "reidlit":
        figures |= on_disk(search.__self__, work)  # type: ignore[attr-defined]
    return figures | {"peak_megabytes": peak()}


def floor(arguments: argparse.Namespace) -> Search:
    """Return the bare product by the faster library."""
    blocks = list(random_features(arguments.gallery))
    rows = -(-arguments.queries // ROWS) * ROWS
    buffer = np.empty(rows * BLOCK, np.float32)

    def product(query: Array, multiply: Callable[[Array, Array, Array], None]) -> None:
        padded = np.zeros((-(-len(query) // ROWS) * ROWS, DIMENSIONS), np.float32)
        padded[: len(query)] = query
        for block in blocks:
            multiply(padded, block, buffer[: len(padded) * len(block)].reshape(len(padded), len(block)))

    def seconds(multiply: Callable[[Array, Array, Array], None]) -> float:
        start = time.perf_counter()
        multiply(np.ones((rows, DIMENSIONS), np.float32), blocks[0], buffer[: rows * len(blocks[0])].reshape(rows, -1))
        return time.perf_counter() - start

    faster = min((by_numpy, by_torch), key=lambda multiply: min(seconds(multiply) for _ in range(2)))

    def search(query: Array) -> NDArray[np.int64]:
        product(query, faster)
        return np.empty(0, np.int64)

    return search


class Ours:
    """Search in a `reidlit.Gallery` of random features."""

    def __init__(self, arguments: argparse.Namespace, index: Any = "exact") -> None:
        self.k = arguments.k
        self.gallery = Gallery(index=index)
        for block in random_features(arguments.gallery):
            self.gallery.add(block)

    def search(self, query: Array) -> NDArray[np.int64]:
        """Return the ids of the nearest neighbors."""
        return self.gallery.search(query, self.k).ids


def ours(arguments: argparse.Namespace) -> Search:
    """Return the exact search of reidlit."""
    return Ours(arguments).search


def ours_with_faiss(arguments: argparse.Namespace) -> Search:
    """Return the approximate search of reidlit with FAISS's inverted file, which the first search builds."""
    gallery = Ours(arguments, "faiss")
    gallery.search(np.zeros((1, DIMENSIONS), np.float32))
    return gallery.search


def faiss_flat(arguments: argparse.Namespace) -> Search:
    """Return the search of FAISS's exact index."""
    import faiss

    index = faiss.IndexFlatL2(DIMENSIONS)
    for block in random_features(arguments.gallery):
        index.add(block)
    return lambda query: np.asarray(index.search(query, arguments.k)[1])


def random_features(count: int, seed: int = 0) -> Iterator[Array]:
    """Yield blocks of random features; all seeds have the same identities."""
    std = np.arange(1, DIMENSIONS + 1, dtype=np.float32) ** -0.6
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        centers = np.random.default_rng(start).standard_normal((-(-size // IMAGES), DIMENSIONS), dtype=np.float32)
        block = np.random.default_rng([start, seed]).standard_normal((size, DIMENSIONS), dtype=np.float32)
        block *= 0.6
        block += centers.repeat(IMAGES, axis=0)[:size]
        block *= std
        yield block


def on_disk(search: Ours, work: Path) -> dict[str, float]:
    """Measure saving and loading the gallery."""
    start = time.perf_counter()
    search.gallery.save(work / "gallery.npz")
    saved = time.perf_counter() - start
    del search.gallery
    start = time.perf_counter()
    Gallery.load(work / "gallery.npz")
    loaded = time.perf_counter() - start
    (work / "gallery.npz").unlink()
    return {"seconds_to_save": saved, "seconds_to_load": loaded}


def timed(search: Search, query: Array) -> float:
    """Return the median time of a search in seconds."""
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        search(query)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def agreement(work: Path, forms: list[str]) -> dict[str, float]:
    """Return the fraction of the exact neighbors of reidlit that each other form finds."""
    neighbors = {form: np.load(work / f"{form}.npy") for form in forms}
    if "reidlit" not in neighbors:
        return {}
    return {
        form: round(float(np.mean([np.isin(*pair).mean() for pair in zip(neighbors["reidlit"], ids, strict=True)])), 5)
        for form, ids in neighbors.items()
        if form != "reidlit"
    }


def peak() -> float:
    """Return the peak resident set in megabytes, 0 without /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


def spread(values: list[float]) -> dict[str, float]:
    """Return the median and the range."""
    return {
        name: round(statistic(values), 4)
        for name, statistic in (("median", statistics.median), ("min", min), ("max", max))
    }


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    main()
