"""All that waits for a GPU: evaluation there, whether it finds what the CPU finds, and training steps beside Torchreid's.

    python benchmarks/gpu.py [--device cuda] [--scale 1] [--output benchmarks/results/gpu.json]

Evaluation: the floor comes first, the bare fp32 product of the same embeddings on the same device. The embeddings are drawn as in
evaluation.py and lie on the device before the clock starts; medians over the repetitions.

Training: images a second of a whole step (as in train_step.py) with the images already there. Torchreid's runs in fp32 as its
engine does, ours in fp32, in bf16 with channels last, and that compiled. Then whole training through Lightning and the loaders,
as waiting.py measures it: which share of a step is spent waiting for images. At last Torchreid's own engine and ours, from
files to weights, as training.py measures them, on drawn images at Market-1501's size.

`--device cpu --scale 0.02` tries the script out where there is no GPU.
"""

import argparse
import datetime
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import reidlit
import train_step
from evaluation import ALL_EXTRAS, SIZES, drawn, machine, versions
from reidlit import metrics
from reidlit.metrics._ranking.matmul import full_precision
from reidlit.metrics.distance import DEVICE_ENTRIES
from training import draw, training_engines
from training_run import LOSSES, SIDES, Setting
from waiting import waiting

TRAINED = {"osnet_x1_0": 64, "resnet50": 64}  # batch
Run = Callable[[], Any]


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", type=float, default=1.0, help="less of everything, to try the script out")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("There is no GPU here; --device cpu --scale 0.02 tries the script out.")
    results = {
        "what": "seconds of an evaluation on the device, embeddings already there, fp32; medians",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "machine": machine(),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": versions(),
        "scale": arguments.scale,
        "market": measure("market", device, arguments.scale, arguments.repetitions, rerank=True),
        "msmt17": measure("msmt17", device, arguments.scale, arguments.repetitions, rerank=False),
        "training": {
            name: training(name, max(2, round(batch * arguments.scale)), device, arguments.repetitions)
            for name, batch in TRAINED.items()
        },
        "waiting_for_images": {
            f"{name} {precision} pack={pack}": waiting(
                name,
                device.type,
                max(12, round(200 * arguments.scale)),
                os.cpu_count() if device.type == "cuda" else 0,
                pack,
                precision,
                max(2, round(batch * arguments.scale)),
            )
            for name, batch in TRAINED.items()
            for precision in ("32-true", "bf16-mixed")
            for pack in (None, "decoded")
        },
        "engines": engines(device.type, arguments.scale),
    }
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def measure(name: str, device: torch.device, scale: float, repetitions: int, rerank: bool) -> dict[str, Any]:
    """Times the floor and the evaluations of one dataset's size, in turn."""
    features = drawn(SIZES[name].scaled(scale))
    query, gallery = (torch.from_numpy(embedding).to(device) for embedding in features[:2])
    labels = features[2:]
    runs: dict[str, Run] = {
        "floor": lambda: product(query, gallery),
        "evaluate": lambda: reidlit.evaluate(query, gallery, *labels),
        "evaluate_extras": lambda: reidlit.evaluate(query, gallery, *labels, **ALL_EXTRAS),
    }
    if rerank:
        step = metrics.KReciprocal()
        runs["floor_all_x_all"] = lambda: product(everyone, everyone)
        runs["evaluate_kreciprocal"] = lambda: reidlit.evaluate(query, gallery, *labels, postprocess=[step])
        everyone = torch.cat([query, gallery])
    seconds: dict[str, list[float]] = {key: [] for key in runs}
    peaks: dict[str, float] = {}
    for repetition in range(repetitions + 1):  # the first warms up
        for key, run in runs.items():
            used, peak = timed(run, device)
            if repetition:
                seconds[key].append(used)
                peaks[key] = peak
    here, there = reidlit.evaluate(*features), reidlit.evaluate(query, gallery, *labels)
    return {
        "data": {"query": list(query.shape), "gallery": list(gallery.shape)},
        "mAP": {"cpu": here.mAP, "device": there.mAP},
        "rank1": {"cpu": here.rank(1), "device": there.rank(1)},
        "seconds": {key: round(statistics.median(values), 5) for key, values in seconds.items()},
        "seconds_min_max": {key: [round(min(values), 5), round(max(values), 5)] for key, values in seconds.items()},
        "extra_peak_megabytes": {key: round(peak / 1e6, 1) for key, peak in peaks.items()},
    }


def training(name: str, batch: int, device: torch.device, repetitions: int) -> dict[str, Any]:
    """Images a second of training steps, from weights and images that are the same for all."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, 3, 256, 128, generator=generator).to(device)
    pid = torch.randint(0, train_step.CLASSES, (batch,), generator=generator).to(device)

    def ours() -> torch.nn.Module:
        return reidlit.build_model(name, train_step.CLASSES).to(device)

    steps: dict[str, Callable[[], Run]] = {
        "torchreid": lambda: train_step.their_step(train_step.their_model(name).to(device), image, pid),
        "reidlit_fp32": lambda: train_step.our_step(ours(), image, pid, bf16=False),
        "reidlit_bf16": lambda: train_step.our_step(ours(), image, pid, bf16=True),
        "reidlit_bf16_compiled": lambda: train_step.our_step(ours(), image, pid, bf16=True, compiled=True),
    }
    rates, peaks, spreads = {}, {}, {}
    for key, make in steps.items():
        step = make()
        for _ in range(3):  # compiles, and lets cuDNN choose
            step()
        times, peak = zip(*(timed(step, device) for _ in range(10 * repetitions)), strict=True)
        rates[key] = round(batch / statistics.median(times), 1)
        spreads[key] = [round(batch / max(times), 1), round(batch / min(times), 1)]
        peaks[key] = round(max(peak) / 1e6, 1)
    return {
        "batch": batch,
        "images_per_second": rates,
        "images_per_second_min_max": spreads,
        "ratio_to_torchreid": {key: round(rate / rates["torchreid"], 2) for key, rate in rates.items()},
        "extra_peak_megabytes": peaks,
    }


def engines(device: str, scale: float) -> dict[str, Any]:
    """Whole trainings of Torchreid's engine and of ours, in each of its forms, beside their floor."""
    workers = min(os.cpu_count() or 1, 16) if device == "cuda" else 1
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(
            root=folder,
            packs=folder,
            device=device,
            batch=max(8, round(64 * scale)),
            height=256,
            width=128,
            workers=workers,
            warm_up=2 * workers + 4,
            steps=max(2, round(60 * scale)),
            rounds=max(1, round(3 * scale)),
        )
        draw(setting)
        return {name: training_engines(name, list(LOSSES), SIDES, setting) for name in TRAINED}


def product(query: Tensor, gallery: Tensor) -> None:
    """The bare product in blocks, in fp32 whatever the device would rather do."""
    rows = max(1, DEVICE_ENTRIES // len(gallery))
    with full_precision(query.device.type):
        for part in torch.split(query, rows):
            torch.mm(part, gallery.T)


def timed(run: Run, device: torch.device) -> tuple[float, float]:
    """Seconds and the device's peak of memory in bytes beyond what was held before."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else 0
    start = time.perf_counter()
    run()
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return seconds, (torch.cuda.max_memory_allocated() - before) if cuda else 0


if __name__ == "__main__":
    main()
