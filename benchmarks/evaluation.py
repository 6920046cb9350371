"""Time and memory of an evaluation on the CPU, compared with the bare matrix product and with Torchreid.

    python benchmarks/evaluation.py [--jobs market,ranking] [--features market.npz] [--rank-cy FILE] [--skip-peers]

The floor is the product of the same fp32 embeddings, by torch and by NumPy, in blocks of queries into one reused buffer. Nothing
that compares every query with every gallery entry is faster. All candidates of a job take turns in one process, so that other
jobs on the machine affect them equally. A pause precedes each, because the threads of OpenMP and OpenBLAS spin for a while after
their work. Medians over the repetitions are reported. The extra memory is the increase of the peak resident set while a candidate
runs in a separate process. Neither includes compilation, which happens once per installation and is reported separately.

The embeddings are synthetic, with as many identities, cameras and distractors as the datasets have, and realistic scores. With
`--features`, the jobs of the size of Market-1501 use real embeddings, and the re-ranked scores are reported as well.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

import evaluation_peers
import reidlit
from evaluation_peers import BLOCK_BYTES, BLOCK_ROWS
from reidlit import metrics

DIMENSIONS = 512
PAUSE = 0.2  # seconds
ALL_EXTRAS: dict[str, Any] = {"verification": True, "camera_pairs": True, "top_k": 50}
RESULTS = Path(__file__).parent / "results" / "evaluation.json"
Array = NDArray[Any]
Run = Callable[[], Any]


class Size(NamedTuple):
    """Size of a test set."""

    queries: int
    gallery: int
    distractors: int
    identities: int
    cameras: int

    def scaled(self, scale: float) -> "Size":
        """Return the size with fewer images and identities."""
        queries, gallery, distractors, identities = (round(count * scale) for count in self[:4])
        return Size(queries, gallery, distractors, max(identities, 1), self.cameras)


class Job(NamedTuple):
    """Candidates that take turns in one process."""

    data: str
    floor: str
    candidates: tuple[str, ...]
    repetitions: int
    floor_stride: int = 1


class Features(NamedTuple):
    """Positional arguments of `reidlit.evaluate`."""

    query: Array
    gallery: Array
    q_pids: Array
    g_pids: Array
    q_camids: Array
    g_camids: Array


SIZES = {
    "market": Size(3368, 15913, 2798, 750, 6),
    "msmt17": Size(11659, 82161, 0, 3060, 15),
    "market500k": Size(3368, 515913, 502798, 750, 6),
}
TINY = SIZES["market"].scaled(0.02)
EVALUATE = ("evaluate", "evaluate_extras")
RANKING = ("ranking", "torchreid_cython", "torchreid_python")
ONCE = "torchreid_re_ranking"  # too slow to repeat: timed once, in the run that measures the memory
JOBS = {
    "market": Job("market", "query x gallery", EVALUATE, 15),
    "msmt17": Job("msmt17", "query x gallery", EVALUATE, 3),
    "market500k": Job("market500k", "query x gallery", EVALUATE, 3),
    "ranking": Job("market", "pass", RANKING, 5),
    "kreciprocal_market": Job("market", "all x all", ("rerank", "evaluate_kreciprocal", ONCE), 5),
    "kreciprocal_msmt17": Job("msmt17", "all x all", ("evaluate_kreciprocal",), 3, floor_stride=8),
}
NOTES = {
    "ranking": "from an existing (Q, G) matrix; the floor reads it once",
    "kreciprocal_market": "k1 20, k2 6, lambda 0.3. Torchreid's time includes the distances of its engine. It gets their "
    "square roots, because it squares them again, so both re-rank the same values",
    "kreciprocal_msmt17": "Torchreid's needs several matrices of 93,820 x 93,820, 35 GB each, and was not run",
}


def main() -> None:
    """Run the measurements and write the results; a child process measures one job or the memory of one candidate."""
    arguments = parse()
    if arguments.child:
        name, *names = arguments.child
        children: dict[str, Callable[..., Any]] = {f.__name__: f for f in (first_call, timed, measured, accuracy)}
        print(json.dumps(children[name](arguments, *names)))
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, Path(folder))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    names = ["first_call", *JOBS, "accuracy"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", default=",".join(names), help="jobs to run, from %(default)s")
    parser.add_argument("--repetitions", type=int, help="default: 5, and 3 for the large ones")
    parser.add_argument("--features", type=Path, help=f".npz with {', '.join(Features._fields)}, of Market-1501")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all sizes, to try out the script")
    parser.add_argument("--skip-peers", action="store_true", help="skip Torchreid")
    parser.add_argument("--rank-cy", type=Path, help="Torchreid's rank_cy.pyx, or the extension built from it")
    parser.add_argument("--output", type=Path, help=f"default: results/{RESULTS.name}; no file with --scale")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.jobs.split(",")) - set(names):
        parser.error(
            f"--jobs={arguments.jobs} is invalid: {', '.join(sorted(unknown))} must be among {', '.join(names)}"
        )
    return arguments


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Run the jobs one after the other and write the results after each."""
    results: dict[str, Any] = {
        "what": "wall seconds and extra peak memory of an evaluation on the CPU in fp32, medians",
        "floor": f"the bare product in blocks of at most {BLOCK_ROWS} rows and {BLOCK_BYTES // 10**6} MB, by the "
        "faster of torch.mm and numpy.matmul; ratio_to_floor is relative to the faster one, ratio_to_torch to torch.mm",
        "machine": machine(),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": versions(),
        "embeddings": "synthetic" if arguments.features is None else "real at the size of Market-1501, else synthetic",
        "scale": arguments.scale,
    }
    if not arguments.skip_peers:
        arguments.rank_cy, results["torchreid_cython"] = evaluation_peers.cython_evaluator(arguments.rank_cy, folder)
    output = arguments.output or (RESULTS if arguments.scale == 1 else None)
    for name in arguments.jobs.split(","):
        if name == "first_call":
            cache = str(folder / "numba")  # empty for the first process, filled for the second
            states = ("compiling", "from_cache")
            results["first_call_seconds"] = {state: child(arguments, name, NUMBA_CACHE_DIR=cache) for state in states}
        elif name == "accuracy" and arguments.features is not None:
            results["accuracy"] = child(arguments, name)
        elif name in JOBS:
            results[name] = report(arguments, name)
            print_rows(name, results[name])
        if output is not None:
            output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def report(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """Measure one job: the times in one process, the memory of each candidate in a separate one."""
    job = JOBS[name]
    skipped = "torchreid" if arguments.skip_peers else "torchreid_cython" if arguments.rank_cy is None else "-"
    candidates = [candidate for candidate in job.candidates if not candidate.startswith(skipped)]
    timed = child(arguments, "timed", name, *(candidate for candidate in candidates if candidate != ONCE))
    floors = {library: spread(values) for library, values in timed["floor"].items()}
    faster = min(floors, key=lambda library: float(floors[library]["seconds"]))
    figures: dict[str, dict[str, Any]] = {}
    for candidate in candidates:
        run = child(arguments, "measured", name, candidate)
        once = [run.pop("seconds")]
        row = figures[candidate] = spread(timed["seconds"].get(candidate, once))
        row["ratio_to_floor"] = round(row["seconds"] / floors[faster]["seconds"], 2)
        row["ratio_to_torch"] = round(row["seconds"] / floors["torch"]["seconds"], 2)
        if candidate.startswith("torchreid"):
            row[f"ratio_to_{candidates[0]}"] = round(row["seconds"] / figures[candidates[0]]["seconds"], 1)
        row |= run
    scores = [row["mAP"] for row in figures.values()]
    if max(scores) - min(scores) > 1e-3:
        print(f"{name}: the candidates do not return the same mAP: {scores}", file=sys.stderr)
    return {
        **({"note": NOTES[name]} if name in NOTES else {}),
        "data": timed["data"],
        "repetitions": timed["repetitions"],
        "floor": {"of": job.floor, "measured_share_of_rows": round(timed["fraction"], 4), "faster": faster, **floors},
        "candidates": figures,
    }


def child(arguments: argparse.Namespace, *names: str, **environment: str) -> dict[str, Any]:
    """Run this file in a new process; return the last line that it prints, parsed as JSON."""
    command = [sys.executable, __file__, "--scale", str(arguments.scale)]
    for option in ("repetitions", "features", "rank_cy"):
        if getattr(arguments, option) is not None:
            command += [f"--{option.replace('_', '-')}", str(getattr(arguments, option))]
    done = subprocess.run(
        [*command, "--child", *names], stdout=subprocess.PIPE, text=True, check=True, env=os.environ | environment
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def first_call(_: argparse.Namespace) -> dict[str, float]:
    """Measure the first evaluation and the first re-ranking on a tiny problem, without imports."""
    features = synthetic_features(TINY)
    evaluate, rerank = reidlit.evaluate, reidlit.rerank  # imports the modules
    start = time.perf_counter()
    evaluate(*features, **ALL_EXTRAS)
    middle = time.perf_counter()
    rerank(features.query, features.gallery)
    return {"evaluate_extras": round(middle - start, 3), "rerank": round(time.perf_counter() - middle, 3)}


def timed(arguments: argparse.Namespace, name: str, *candidates: str) -> dict[str, Any]:
    """Measure the floor and the candidates in turn, after a tiny warm-up that compiles everything."""
    job = JOBS[name]
    features = load(arguments, job.data)
    runs = prepare(candidates, features, arguments.rank_cy)
    floors, fraction = evaluation_peers.floor(job.floor, features.query, features.gallery, job.floor_stride)
    warm_up(candidates, arguments.rank_cy)
    seconds: dict[str, list[float]] = {key: [] for key in (*floors, *runs)}
    repetitions = arguments.repetitions or job.repetitions
    for _ in range(repetitions):
        for key, run in (*floors.items(), *runs.items()):
            time.sleep(PAUSE)
            start = time.perf_counter()
            run()
            seconds[key].append(time.perf_counter() - start)
    return {
        "data": {"query": features.query.shape, "gallery": features.gallery.shape},
        "repetitions": repetitions,
        "floor": {key: [value / fraction for value in seconds[key]] for key in floors},
        "fraction": fraction,
        "seconds": {key: seconds[key] for key in runs},
    }


def measured(arguments: argparse.Namespace, name: str, candidate: str) -> dict[str, Any]:
    """Measure the memory of one candidate; return it with the scores, which should be equal for all candidates."""
    features = load(arguments, JOBS[name].data)
    run = prepare([candidate], features, arguments.rank_cy)[candidate]
    warm_up([candidate], arguments.rank_cy)
    start = time.perf_counter()
    result, extra = with_peak(run)
    seconds = time.perf_counter() - start
    if hasattr(result, "shape"):  # a re-ranked matrix
        result = reidlit.evaluate(None, None, *features[2:], distance=result)
    return {
        "extra_peak_megabytes": None if extra is None else round(extra / 1e6, 1),
        "rank1": round(float(result.cmc[0]), 5),
        "mAP": round(float(result.mAP), 5),
        "seconds": seconds,
    }


def accuracy(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the scores of the features, plain and re-ranked; Torchreid's engine re-ranks with exponent 4."""
    features = load(arguments, "market")
    scores = {"plain": reidlit.evaluate(*features)}
    for exponent in (2, 4):
        postprocess = [metrics.KReciprocal(exponent=exponent)]
        scores[f"kreciprocal_exponent{exponent}"] = reidlit.evaluate(*features, postprocess=postprocess)
    return {key: {"rank1": round(s.rank(1), 5), "mAP": round(s.mAP, 5)} for key, s in scores.items()}


def prepare(candidates: Sequence[str], features: Features, rank_cy: Path | None) -> dict[str, Run]:
    """Return the function that runs each candidate, with everything prepared that is not measured."""
    query, gallery, *labels = features
    runs: dict[str, Run] = {
        "evaluate": lambda: reidlit.evaluate(*features),
        "evaluate_extras": lambda: reidlit.evaluate(*features, **ALL_EXTRAS),
        "evaluate_kreciprocal": lambda: reidlit.evaluate(*features, postprocess=[metrics.KReciprocal()]),
        "rerank": lambda: reidlit.rerank(query, gallery, k1=20, k2=6, lambda_value=0.3),
    }
    if set(candidates) & set(RANKING):
        matrix = metrics.pairwise_distance(torch.from_numpy(query), torch.from_numpy(gallery)).numpy()
        runs["ranking"] = lambda: reidlit.evaluate(None, None, *labels, distance=matrix)
        runs["torchreid_python"] = lambda: evaluation_peers.evaluate_rank(None, matrix, *labels)
        runs["torchreid_cython"] = lambda: evaluation_peers.evaluate_rank(rank_cy, matrix, *labels)
    runs["torchreid_re_ranking"] = lambda: evaluation_peers.re_ranking(query, gallery)
    return {candidate: runs[candidate] for candidate in candidates}


def warm_up(candidates: Sequence[str], rank_cy: Path | None) -> None:
    """Compile or load the kernels from the cache, and start the threads of the libraries."""
    for run in prepare(candidates, synthetic_features(TINY), rank_cy).values():
        run()


def load(arguments: argparse.Namespace, name: str) -> Features:
    """Return the given features if there are any, otherwise synthetic ones."""
    if arguments.features is None or name != "market":
        return synthetic_features(SIZES[name].scaled(arguments.scale))
    with np.load(arguments.features) as file:
        features = Features(*(file[field] for field in Features._fields))
    step = max(1, round(1 / arguments.scale))
    return Features(*(np.ascontiguousarray(array[::step]) for array in features))


def synthetic_features(size: Size) -> Features:
    """Return random embeddings around the center of each identity, with an offset for each camera.

    Their variance decreases over the dimensions; otherwise all neighbors would be about equally distant. Each distractor, pid 0,
    has its own center.
    """
    rng = np.random.default_rng(0)
    std = np.arange(1, DIMENSIONS + 1, dtype=np.float32) ** -0.6
    centers = rng.standard_normal((size.identities + 1, DIMENSIONS), dtype=np.float32)
    centers[0] = 0
    offsets = 0.5 * rng.standard_normal((size.cameras, DIMENSIONS), dtype=np.float32)

    def embed(pids: Array, camids: Array) -> Array:
        noise = 0.55 * np.exp(0.15 * rng.standard_normal(len(pids), dtype=np.float32))
        noise[pids == 0] = np.sqrt(1 + noise[pids == 0] ** 2)
        embedding = rng.standard_normal((len(pids), DIMENSIONS), dtype=np.float32)
        embedding *= noise[:, None]
        embedding += centers[pids]
        embedding += offsets[camids]
        embedding *= std
        return embedding

    identified = rng.integers(1, size.identities + 1, size.gallery - size.distractors)
    g_pids = rng.permutation(np.concatenate([identified, np.zeros(size.distractors, np.int64)]))
    q_pids = rng.choice(identified, size.queries)
    q_camids, g_camids = (rng.integers(0, size.cameras, count) for count in size[:2])
    return Features(embed(q_pids, q_camids), embed(g_pids, g_camids), q_pids, g_pids, q_camids, g_camids)


def with_peak(run: Run) -> tuple[Any, int | None]:
    """Run a function; return its result and the increase of the peak resident set in bytes, None without /proc.

    The kernel records the peak. If it cannot be reset, a thread samples the resident set every 5 ms instead.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return run(), None

    def resident(field: str) -> int:
        lines = status.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))

    def sample() -> None:
        while not done.wait(0.005):
            samples.append(resident("VmRSS"))

    done = threading.Event()
    samples = [resident("VmRSS")]
    field = "VmHWM"
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    except OSError:
        field = "VmRSS"
        threading.Thread(target=sample, daemon=True).start()
    result = run()
    done.set()
    return result, max(*samples, resident(field)) - samples[0]


def spread(seconds: list[float]) -> dict[str, Any]:
    """Return the median and the range."""
    median, minimum, maximum = (round(value, 6) for value in (statistics.median(seconds), min(seconds), max(seconds)))
    return {"seconds": median, "seconds_min_max": [minimum, maximum]}


def print_rows(name: str, job: dict[str, Any]) -> None:
    """Print one job as rows of a table that starts with the floor."""
    floor = job["floor"]
    rows = {f"floor ({floor['faster']})": floor[floor["faster"]], **job["candidates"]}
    for key, row in rows.items():
        if "seconds" in row:
            ratio, memory = row.get("ratio_to_floor", 1.0), row.get("extra_peak_megabytes") or 0.0
            print(f"{name:20}{key:24}{row['seconds']:12.4f} s{ratio:10.2f} x{memory:10.1f} MB", flush=True)


def machine() -> dict[str, Any]:
    """Return a description of the machine."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return {
        "cpu": next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor()),
        "cores": os.cpu_count(),
        "blas": [
            library.get("architecture", library["internal_api"])
            for library in threadpool_info()
            if library["user_api"] == "blas"
        ],
        "threads": {"torch": torch.get_num_threads(), "numba": numba.get_num_threads()},
        "load_before": round(os.getloadavg()[0], 1),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and the measured packages."""
    installed = {distribution.name.lower(): distribution.version for distribution in importlib.metadata.distributions()}
    packages = ("reidlit", "torch", "numpy", "numba", *evaluation_peers.PACKAGES)
    return {"python": platform.python_version()} | {name: installed[name] for name in packages if name in installed}


if __name__ == "__main__":
    main()
