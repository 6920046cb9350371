"""Speed of end-to-end training from JPEG files to weights with Torchreid's engine and with `reidlit train`.

    python benchmarks/training.py [folder that contains market1501] [--models osnet_x0_25,osnet_x1_0,resnet50] [--losses softmax,triplet]
    python benchmarks/training.py --synthetic      generates images in the layout of Market-1501

Both sides train on the same files with the same number of workers, flip, crop, erasing, AMSGrad and random weights. Torchreid uses
its `ImageDataManager` and `ImageSoftmaxEngine` or `ImageTripletEngine` (with cross entropy, weight 1 each), on a GPU in fp32 under
DataParallel with cuDNN's search, as its script does. reidlit uses its command line with callbacks, loggers and checkpoints. Each
run has its own process, the sides alternate, and medians over the rounds are reported.

The times are taken in PyTorch's loader, which both use. A step lasts from one request of a batch to the next; waiting lasts from a
request to the batch. The first steps, which use prefetched batches, are not counted. A GPU runs asynchronously. Its rate is
measured in a window without synchronization, and the fraction of waiting in another window with a synchronization after each step,
so that the time until the next step is loading only.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from hydra import compose, initialize_config_dir
from torch.profiler import ProfilerActivity, profile

import train_step
from evaluation import machine, versions
from loader import measure
from rates import product_flops
from reidlit import build_model
from reidlit.commands._data import build_datamodule
from reidlit.config import CONFIG_DIR
from reidlit.data.decode import decode
from reidlit.data.synthetic.pedestrians import Pedestrians
from training_run import LOSSES, SIDES, Setting, data_options

MARKET = Path("market1501", "Market-1501-v15.09.15")
RUN = Path(__file__).with_name("training_run.py")
RESULTS = Path(__file__).parent / "results" / "training.json"


def main() -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", nargs="?", type=Path, help="folder that contains market1501")
    parser.add_argument("--synthetic", action="store_true", help="generate images instead of using Market-1501")
    parser.add_argument("--models", default="osnet_x0_25,osnet_x1_0,resnet50")
    parser.add_argument("--losses", default="softmax,triplet", help="losses, from %(default)s")
    parser.add_argument(
        "--sides", default="torchreid,reidlit", help=f"sides, from {', '.join(SIDES)}; default: %(default)s"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 128), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="workers of each side; default: one per core"
    )
    parser.add_argument("--warm-up", type=int, help="steps that are not counted; default: 2 per worker plus 4")
    parser.add_argument("--steps", type=int, default=30, help="measured steps per process")
    parser.add_argument("--rounds", type=int, default=3, help="processes per side")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.synthetic == (arguments.root is not None):
        parser.error("either the folder that contains market1501 or --synthetic is required, but not both")
    for option, choices in (("sides", SIDES), ("losses", LOSSES)):
        if unknown := set(getattr(arguments, option).split(",")) - set(choices):
            parser.error(
                f"--{option} contains unknown {', '.join(sorted(unknown))}: must be among {', '.join(choices)}"
            )
    with tempfile.TemporaryDirectory() as folder:
        warm_up = 2 * arguments.workers + 4 if arguments.warm_up is None else arguments.warm_up
        setting = Setting(
            root=str(Path(folder) if arguments.synthetic else arguments.root.resolve()),
            packs=folder,
            device=arguments.device,
            batch=arguments.batch,
            height=arguments.size[0],
            width=arguments.size[1],
            workers=arguments.workers,
            warm_up=warm_up,
            steps=arguments.steps,
            rounds=arguments.rounds,
        )
        if arguments.synthetic:
            draw(setting)
        measure_all(arguments, setting)


def measure_all(arguments: argparse.Namespace, setting: Setting) -> None:
    """Measure the models and write the results after each."""
    results: dict[str, Any] = {
        "what": "images per second of end-to-end training, from JPEG files to weights, medians over processes",
        "floor": "seconds of a step: each convolution and linear layer three times (forward, and backward to input and weight) "
        "at the rates of this machine, with norms, ReLU and gates as free; and decoding the files on all cores. On the CPU the "
        "two add up, because they use the same cores; on a GPU the longest counts, including kernel launches",
        "machine": machine(),
        "device": torch.cuda.get_device_name() if setting.device == "cuda" else "cpu",
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": {**versions(), **libraries()},
        "images": "synthetic" if arguments.synthetic else "market1501",
        "setting": {key: value for key, value in setting._asdict().items() if key not in ("root", "packs")},
        "models": {},
    }
    sides = arguments.sides.split(",")
    for model in arguments.models.split(","):
        results["models"][model] = training_engines(model, arguments.losses.split(","), sides, setting)
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def training_engines(model: str, losses: Sequence[str], sides: Sequence[str], setting: Setting) -> dict[str, Any]:
    """Measure the sides on one model, in alternating processes, and its floor.

    A side that fails is reported and skipped, so that the other measurements are not lost.
    """
    images = sum(1 for _ in (Path(setting.root) / MARKET / "bounding_box_train").glob("*.jpg"))
    if not images:
        raise SystemExit(f"{Path(setting.root) / MARKET / 'bounding_box_train'} contains no .jpg files.")
    if any(side.endswith("_packed") for side in sides):
        pack(setting)
    results: dict[str, Any] = {"floor": floor(model, setting)}
    for loss in losses:
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        failed: dict[str, str] = {}
        for _ in range(setting.rounds):
            for side in sides:
                if side in failed:
                    continue
                try:
                    runs[side].append(run := launch(side, model, loss, setting))
                except ValueError as error:
                    failed[side] = str(error)
                    print(f"{model} {loss} {side} failed: {error}", file=sys.stderr, flush=True)
                else:
                    print(
                        f"{model} {loss} {side:28}{run['images_per_second']:10.1f} images/s",
                        file=sys.stderr,
                        flush=True,
                    )
        rows = {side: summary(runs[side], images) for side in sides if side not in failed}
        if "torchreid" in rows:
            for row in rows.values():
                row["ratio_to_torchreid"] = round(row["images_per_second"] / rows["torchreid"]["images_per_second"], 2)
        results[loss] = rows | {side: {"failed": message} for side, message in failed.items()}
    return results


def summary(runs: Sequence[Mapping[str, Any]], images: int) -> dict[str, Any]:
    """Return the medians over the processes of one side, and the maximum of the memory."""
    rates = [run["images_per_second"] for run in runs]
    rate = statistics.median(rates)
    first = [run["seconds_to_first_step"] for run in runs]
    return {
        "images_per_second": round(rate, 1),
        "images_per_second_min_max": [round(min(rates), 1), round(max(rates), 1)],
        "share_waiting": round(statistics.median(run["share_waiting"] for run in runs), 4),
        "seconds_an_epoch": round(images / rate, 1),
        "seconds_to_first_step": round(statistics.median(first), 1),
        # Compiled code is cached, so the maximum is the first run.
        "seconds_to_first_step_min_max": [round(min(first), 1), round(max(first), 1)],
        "peak_megabytes": {
            key: round(max(run["megabytes"][key] for run in runs), 1) for key in runs[0].get("megabytes", {})
        },
    }


def launch(side: str, model: str, loss: str, setting: Setting) -> dict[str, Any]:
    """Run one side once in a new process; return its measurements.

    Raises:
        ValueError: If the process fails, with the end of its output.
    """
    command = [sys.executable, str(RUN), side, model, loss, json.dumps([time.time(), *setting])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError("\n".join((done.stderr or done.stdout).strip().splitlines()[-8:]))
    return dict(json.loads(done.stdout.splitlines()[-1]))


def pack(setting: Setting) -> None:
    """Write the pack before the measurements, because it is written only once."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        build_datamodule(compose("train", [*data_options(setting), "data.pack=decoded"])).prepare_data()


def draw(setting: Setting) -> None:
    """Generate the images of an epoch, at most as many as Market-1501 has, with its image size and layout."""
    cameras, shots = 6, 3
    identities = min(751, max(setting.batch // 4, setting.batch * (setting.last + 2) // (cameras * shots) + 1))
    pedestrians = Pedestrians(identities + 1, cameras, shots)
    for pid, camid, shot in pedestrians.keys(range(identities + 1)):
        test_folder = "query" if camid == 0 else "bounding_box_test"
        folder = Path(setting.root) / MARKET / ("bounding_box_train" if pid < identities else test_folder)
        folder.mkdir(parents=True, exist_ok=True)
        image = cv2.cvtColor(pedestrians.draw(pid, camid, shot), cv2.COLOR_RGB2BGR)
        name = f"{pid + 1:04d}_c{camid + 1}s1_{shot:06d}_00.jpg"
        cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, 84])  # files as large as those of Market-1501


def floor(model: str, setting: Setting) -> dict[str, Any]:
    """Return the minimum seconds of a step on this machine in fp32 and bf16, and their components."""
    device = torch.device(setting.device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    loading = setting.batch * seconds_to_decode(Path(setting.root) / MARKET / "bounding_box_train") / cores
    bandwidth = bytes_per_second(device)
    network, image = train_step.their_model(model), torch.zeros(setting.batch, 3, setting.height, setting.width)
    results: dict[str, Any] = {"decoding_seconds": round(loading, 5), "gigabytes_per_s": round(bandwidth / 1e9, 1)}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        flops, half = product_rate(device, dtype), 1 if dtype == torch.float32 else 2
        layers = train_step.floor(network, image, flops, half * bandwidth)
        components = {
            "gflops": round(flops / 1e9, 1),
            "arithmetic_seconds": round(train_step.floor(network, image, flops, math.inf), 5),
            "bytes_seconds": round(train_step.floor(network, image, math.inf, half * bandwidth), 5),
            "layers_seconds": round(layers, 5),  # the slower of the two for each layer
        }
        step = layers + loading
        if device.type == "cuda":
            components |= launches(model, setting, bf16=dtype == torch.bfloat16)
            step = max(layers, loading, components["launches_seconds"])
        results[name] = components | {
            "step_seconds": round(step, 5),
            "images_per_second": round(setting.batch / step, 1),
        }
    if device.type == "cuda":
        torch.cuda.empty_cache()  # for the measured processes
    return results


def seconds_to_decode(folder: Path, count: int = 300) -> float:
    """Return the CPU seconds to decode one image on one core."""
    files = sorted(folder.glob("*.jpg"))
    paths = [str(path) for path in files[:: max(len(files) // count, 1)]]
    return (
        measure({"decode": lambda paths: [decode(path).shape for path in paths]}, paths, 5)["decode"]["microseconds"]
        / 1e6
    )


def bytes_per_second(device: torch.device) -> float:
    """Return the bytes per second, read and written, of an addition outside the cache."""
    values = torch.randn((1 << 28) if device.type == "cuda" else (16 << 20), device=device)
    out = torch.empty_like(values)
    return 8 * values.numel() / fastest(lambda: torch.add(values, 1.0, out=out), device)


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s of a large matrix product; on a GPU fp32 uses TF32, as cuDNN's convolutions do."""
    if device.type == "cpu" and dtype == torch.float32:
        return product_flops()
    size = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    seconds = fastest(lambda: left @ right, device)
    torch.set_float32_matmul_precision(before)
    return 2 * size**3 / seconds


def fastest(job: Callable[[], Any], device: torch.device, repetitions: int = 8) -> float:
    """Return the minimum seconds of a job."""
    seconds = []
    for _ in range(repetitions):
        synchronize(device)
        start = time.perf_counter()
        job()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def launches(model: str, setting: Setting, bf16: bool) -> dict[str, float]:
    """Return the number of kernels in a step of reidlit on the GPU, and the seconds that launching them takes."""
    image = torch.randn(setting.batch, 3, setting.height, setting.width, device="cuda")
    pid = torch.randint(0, train_step.CLASSES, (setting.batch,), device="cuda")
    step = train_step.our_step(build_model(model, train_step.CLASSES).cuda(), image, pid, bf16=bf16)
    step()
    count = kernels(step)
    return {"launches": count, "launches_seconds": round(count * seconds_per_launch(), 5)}


def kernels(step: Callable[[], Any]) -> int:
    """Return the number of kernels that a step runs on the GPU."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    on_device = (event.name for event in profiler.events() or () if event.device_type.name == "CUDA")
    return sum(not name.startswith(("Memcpy", "Memset")) for name in on_device)


def seconds_per_launch(count: int = 500) -> float:
    """Return the seconds per kernel launch for nearly empty kernels."""
    value = torch.zeros(1, device="cuda")

    def job() -> None:
        for _ in range(count):
            value.add_(1)

    return fastest(job, value.device) / count


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that only training needs."""
    names = ("torchreid", "torchvision", "pytorch-lightning", "albumentations", "opencv-python-headless", "pillow")
    installed = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


if __name__ == "__main__":
    main()
