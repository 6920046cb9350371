"""Benchmarks on a GPU: evaluation, compared with the CPU, and training, compared with Torchreid.

    python benchmarks/gpu.py [--device cuda] [--scale 1] [--output benchmarks/results/gpu.json]

Evaluation: the floor is the bare fp32 product of the same embeddings on the same device. The embeddings are synthetic as in
evaluation.py and on the device before the measurement starts. Medians over the repetitions are reported.

Training: images per second of a complete step (as in train_step.py) with the images on the device. Torchreid runs in fp32 as in
its engine; reidlit runs in fp32, in bf16, and in bf16 compiled. Next, the fraction of a step that Lightning and the loaders spend
waiting for images is measured as in waiting.py. Finally, end-to-end training from files to weights with Torchreid's engine and
with reidlit is measured as in training.py, on synthetic images of the size of Market-1501.

`--device cpu --scale 0.02` tries out the script without a GPU.
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
from evaluation import ALL_EXTRAS, SIZES, machine, synthetic_features, versions
from reidlit import metrics
from reidlit.metrics._ranking.matmul import full_precision
from reidlit.metrics.distance import DEVICE_ENTRIES
from training import draw, training_engines
from training_run import LOSSES, SIDES, Setting
from waiting import waiting

TRAINED = {"osnet_x1_0": 64, "resnet50": 64}  # batch size per model
Run = Callable[[], Any]


def main() -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all sizes, to try out the script")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device=cuda is not available: try out the script with --device cpu --scale 0.02.")
    results = {
        "what": "seconds of an evaluation on the device with the embeddings on the device, fp32, medians",
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
    """Measure the floor and the evaluations at the size of one dataset, in turn."""
    features = synthetic_features(SIZES[name].scaled(scale))
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
    for repetition in range(repetitions + 1):  # the first is a warm-up
        for key, run in runs.items():
            used, peak = timed(run, device)
            if repetition:
                seconds[key].append(used)
                peaks[key] = peak
    cpu_scores, device_scores = reidlit.evaluate(*features), reidlit.evaluate(query, gallery, *labels)
    return {
        "data": {"query": list(query.shape), "gallery": list(gallery.shape)},
        "mAP": {"cpu": cpu_scores.mAP, "device": device_scores.mAP},
        "rank1": {"cpu": cpu_scores.rank(1), "device": device_scores.rank(1)},
        "seconds": {key: round(statistics.median(values), 5) for key, values in seconds.items()},
        "seconds_min_max": {key: [round(min(values), 5), round(max(values), 5)] for key, values in seconds.items()},
        "extra_peak_megabytes": {key: round(peak / 1e6, 1) for key, peak in peaks.items()},
    }


def training(name: str, batch: int, device: torch.device, repetitions: int) -> dict[str, Any]:
    """Measure the images per second of training steps with the same weights and images."""
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
        for _ in range(3):  # compiles, and cuDNN chooses its algorithms
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
    """Measure end-to-end training with Torchreid's engine and with each form of reidlit, and the floor."""
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
    """Compute the bare product in blocks in full fp32 precision."""
    rows = max(1, DEVICE_ENTRIES // len(gallery))
    with full_precision(query.device.type):
        for block in torch.split(query, rows):
            torch.mm(block, gallery.T)


def timed(run: Run, device: torch.device) -> tuple[float, float]:
    """Return the seconds of a run and the increase of the peak memory of the device in bytes."""
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
