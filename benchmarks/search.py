"""Seconds of an exact search on the CPU: ours beside FAISS's flat index and the bare product.

    python benchmarks/search.py [--gallery 1000000] [--queries 1000] [--k 10] [--rounds 5] [--forms reidlit,faiss_flat]

Each form runs in a process of its own and holds the gallery once; the forms take turns, several rounds of them; medians.
The floor is the product of all queries with all rows alone, as fast as the libraries at hand make it, a piece of the gallery
at a time into one buffer. A search for one query is timed too: that one reads the gallery and computes next to nothing.
`--approximate` adds our gallery with FAISS as its index, and its recall against the exact search.

Features are drawn around a centre for each identity, with variances that fall off over the dimensions. OpenBLAS chooses its
kernels by the processor; run with `env -u OPENBLAS_CORETYPE` where that variable is set.
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
IMAGES = 20  # of an identity
PART = 2**16  # rows that are drawn at a time
REPETITIONS = 3  # in a process
RESULTS = Path(__file__).parent / "results" / "search.json"
Array = NDArray[np.float32]
Search = Callable[[Array], NDArray[np.int64]]


def main() -> None:
    """Measures and writes the results; a child process measures one form once."""
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
            "what": f"wall seconds of a search for the {arguments.k} nearest of {arguments.queries:,} queries, and of one "
            f"query, among {arguments.gallery:,} features of {DIMENSIONS} float32 numbers, on the CPU; medians",
            "machine": machine(),
            "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
            "versions": versions() | {"faiss-cpu": importlib.metadata.version("faiss-cpu")},
            "rounds": arguments.rounds,
            "forms": {
                form: {name: spread([run[name] for run in found]) for name in found[0]} for form, found in runs.items()
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
    """Reads the command line."""
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
    """Times one form, and stores what it finds."""
    query = next(drawn(arguments.queries, seed=1))
    start = time.perf_counter()
    search = {"floor": floor, "reidlit": ours, "reidlit_faiss": ours_with_faiss, "faiss_flat": faiss_flat}[form](
        arguments
    )
    prepare = time.perf_counter() - start
    found = search(query)  # compiles, builds an index, and starts the threads
    figures = {"prepare": prepare, "seconds": timed(search, query), "seconds_one_query": timed(search, query[:1])}
    if form != "floor":
        np.save(work / f"{form}.npy", found)
    if form == "reidlit":
        figures |= on_disk(search.__self__, work)  # type: ignore[attr-defined]
    return figures | {"peak_megabytes": peak()}


def floor(arguments: argparse.Namespace) -> Search:
    """The bare product, by the faster library."""
    pieces = list(drawn(arguments.gallery))
    rows = -(-arguments.queries // ROWS) * ROWS
    buffer = np.empty(rows * PART, np.float32)

    def product(query: Array, multiply: Callable[[Array, Array, Array], None]) -> None:
        padded = np.zeros((-(-len(query) // ROWS) * ROWS, DIMENSIONS), np.float32)
        padded[: len(query)] = query
        for piece in pieces:
            multiply(padded, piece, buffer[: len(padded) * len(piece)].reshape(len(padded), len(piece)))

    def seconds(multiply: Callable[[Array, Array, Array], None]) -> float:
        start = time.perf_counter()
        multiply(np.ones((rows, DIMENSIONS), np.float32), pieces[0], buffer[: rows * len(pieces[0])].reshape(rows, -1))
        return time.perf_counter() - start

    faster = min((by_numpy, by_torch), key=lambda multiply: min(seconds(multiply) for _ in range(2)))

    def search(query: Array) -> NDArray[np.int64]:
        product(query, faster)
        return np.empty(0, np.int64)

    return search


class Ours:
    """Our gallery."""

    def __init__(self, arguments: argparse.Namespace, index: Any = "exact") -> None:
        """Fill it."""
        self.k = arguments.k
        self.gallery = Gallery(index=index)
        for part in drawn(arguments.gallery):
            self.gallery.add(part)

    def search(self, query: Array) -> NDArray[np.int64]:
        """As a user does."""
        return self.gallery.search(query, self.k).ids


def ours(arguments: argparse.Namespace) -> Search:
    """The exact one."""
    return Ours(arguments).search


def ours_with_faiss(arguments: argparse.Namespace) -> Search:
    """With FAISS's inverted file, which the first search builds."""
    made = Ours(arguments, "faiss")
    made.search(np.zeros((1, DIMENSIONS), np.float32))
    return made.search


def faiss_flat(arguments: argparse.Namespace) -> Search:
    """FAISS's exact index."""
    import faiss

    index = faiss.IndexFlatL2(DIMENSIONS)
    for part in drawn(arguments.gallery):
        index.add(part)
    return lambda query: np.asarray(index.search(query, arguments.k)[1])


def drawn(count: int, seed: int = 0) -> Iterator[Array]:
    """Features, a part at a time; other seeds see the same identities."""
    deviation = np.arange(1, DIMENSIONS + 1, dtype=np.float32) ** -0.6
    for start in range(0, count, PART):
        size = min(PART, count - start)
        centres = np.random.default_rng(start).standard_normal((-(-size // IMAGES), DIMENSIONS), dtype=np.float32)
        part = np.random.default_rng([start, seed]).standard_normal((size, DIMENSIONS), dtype=np.float32)
        part *= 0.6
        part += centres.repeat(IMAGES, axis=0)[:size]
        part *= deviation
        yield part


def on_disk(made: Ours, work: Path) -> dict[str, float]:
    """Seconds to save and to load."""
    start = time.perf_counter()
    made.gallery.save(work / "gallery.npz")
    saved = time.perf_counter() - start
    del made.gallery
    start = time.perf_counter()
    Gallery.load(work / "gallery.npz")
    loaded = time.perf_counter() - start
    (work / "gallery.npz").unlink()
    return {"seconds_to_save": saved, "seconds_to_load": loaded}


def timed(search: Search, query: Array) -> float:
    """The median of some searches."""
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        search(query)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def agreement(work: Path, forms: list[str]) -> dict[str, float]:
    """The share of our exact neighbours that another form finds."""
    found = {form: np.load(work / f"{form}.npy") for form in forms}
    if "reidlit" not in found:
        return {}
    return {
        form: round(
            float(np.mean([np.isin(own, other).mean() for own, other in zip(found["reidlit"], ids, strict=True)])), 5
        )
        for form, ids in found.items()
        if form != "reidlit"
    }


def peak() -> float:
    """The largest resident set so far, in megabytes; 0 without Linux's /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


def spread(values: list[float]) -> dict[str, float]:
    """The median and the range."""
    return {name: round(of(values), 4) for name, of in (("median", statistics.median), ("min", min), ("max", max))}


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    main()
