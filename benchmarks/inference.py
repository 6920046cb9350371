"""Speed of feature extraction: images per second from JPEG files to embeddings, in Torchreid and in reidlit.

    python benchmarks/inference.py [folder of .jpg] [--count 256] [--output benchmarks/results/inference.json] [NAME ...]

Both use the same weights and files. Without a folder, the script generates 128 x 64 files. Torchreid treats the whole list as one
batch, so it receives the files in batches of 32. Each form runs in its own process. The forms take turns in several rounds, and
medians are reported. The largest difference from Torchreid's embedding is relative to the largest value of the embedding. The
floor is that of models.py, the multiply-adds alone at the best rate of the machine, without reading files.
"""

import argparse
import contextlib
import datetime
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation import machine, versions
from loader import draw
from models import SIZE, floor_rate, write_weights
from reidlit import FeatureExtractor
from reidlit.engine.malloc import keep_freed_memory

MODELS = ("osnet_x1_0", "osnet_x0_25", "resnet50")
FORMS = ("torchreid", "torch", "onnx")
BATCH = 32
Extract = Callable[[Sequence[str]], Any]


def main() -> None:
    """Run the measurements and write the results; a child process measures one form of one model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", default=MODELS)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--count", type=int, default=256, help="images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "inference.json")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, form, work = arguments.child
        print(json.dumps(child(name, form, Path(work), arguments.folder, arguments.count)))
        return
    results: dict[str, Any] = {
        "what": f"images per second from JPEG files to embeddings on the CPU, {SIZE[0]} x {SIZE[1]}, fp32, batches of {BATCH}",
        "machine": machine(),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": versions(),
        "images": {
            "source": "synthetic" if arguments.folder is None else arguments.folder.resolve().name,
            "count": arguments.count,
        },
        "models": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        files = arguments.folder or draw(Path(scratch), arguments.count)
        for name in arguments.names:
            results["models"][name] = measure(name, files, arguments)
            print(json.dumps({name: results["models"][name]}, indent=2), flush=True)
            arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def measure(name: str, files: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all forms of one model in turn."""
    command = [sys.executable, __file__, "--folder", str(files), "--count", str(arguments.count), "--child", name]
    with tempfile.TemporaryDirectory() as work:
        write_weights(name, Path(work))
        runs: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
        for _ in range(arguments.rounds):
            for form in FORMS:
                done = subprocess.run([*command, form, work], stdout=subprocess.PIPE, text=True, check=True)
                runs[form].append(json.loads(done.stdout.splitlines()[-1]))
        embeddings = {form: np.load(Path(work) / f"{form}.npy") for form in FORMS}
    rates = {form: [run["images_per_second"] for run in runs[form]] for form in FORMS}
    medians = {form: statistics.median(values) for form, values in rates.items()}
    reference = embeddings["torchreid"]
    return {
        "floor_images_per_second": round(floor_rate(name, BATCH), 1),
        "images_per_second": {form: round(rate, 1) for form, rate in medians.items()},
        "min_max": {form: [round(min(values), 1), round(max(values), 1)] for form, values in rates.items()},
        "ratio_to_torchreid": {form: round(medians[form] / medians["torchreid"], 2) for form in FORMS[1:]},
        "seconds_to_prepare": {
            form: round(statistics.median(run["prepare"] for run in runs[form]), 1) for form in FORMS
        },
        "largest_relative_difference": {
            form: float(f"{abs(embeddings[form] - reference).max() / abs(reference).max():.1e}") for form in FORMS[1:]
        },
    }


def child(name: str, form: str, work: Path, folder: Path, count: int) -> dict[str, float]:
    """Measure one form and save its embeddings."""
    warnings.simplefilter("ignore")
    paths = [str(path) for path in sorted(folder.glob("*.jpg"))[:count]]
    start = time.perf_counter()
    extract = build_form(name, form, work)
    np.save(work / f"{form}.npy", np.asarray(extract(paths[:BATCH])))
    prepare = time.perf_counter() - start
    start = time.perf_counter()
    extract(paths)
    return {"images_per_second": len(paths) / (time.perf_counter() - start), "prepare": prepare}


def build_form(name: str, form: str, work: Path) -> Extract:
    """Return the function that extracts embeddings with one form."""
    weights = str(work / "weights.pth")
    if form != "torchreid":
        keep_freed_memory()
        backend: Any = form
        return FeatureExtractor(name, weights, device="cpu", backend=backend, batch_size=BATCH)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its layers
        from torchreid.reid.utils import FeatureExtractor as Theirs

        theirs = Theirs(model_name=name, model_path=weights, device="cpu", verbose=False)

    def extract(paths: Sequence[str]) -> Any:
        embeddings = [theirs(list(paths[start : start + BATCH])) for start in range(0, len(paths), BATCH)]
        return torch.cat(embeddings)

    return extract


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    main()
