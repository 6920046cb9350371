"""Inference speed on the CPU: images per second of Torchreid's models and of each form of reidlit's models.

    python benchmarks/models.py [--threads 2] [--batch 32] [--output benchmarks/results/models.json] [NAME ...]

The forms are: eager, as in training and `reidlit test` (channels-last); folded batch norms (`export.batch_norm_folding`); folded and
compiled by torch.compile; and exported to ONNX and run by ONNX Runtime. Torchreid's model runs in eval mode, as in its engine and
FeatureExtractor. All forms have the same weights, receive the same uint8 images and normalize them in the measured time. Each form
runs in its own process, because thread pools and allocator settings belong to a process. The forms take turns in several rounds,
and medians are reported. The largest difference from Torchreid's embedding (from the eager one if Torchreid lacks the model) is
relative to the largest value of the embedding. Training steps are measured in train_step.py.

The floor is the time of the multiply-adds of convolutions, linear layers and attention at the best rate of a large matrix product
on the same threads: by PyTorch, by NumPy, or as a 1 x 1 convolution.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from evaluation import machine, versions
from rates import product_flops
from reidlit import build_model, load_weights
from reidlit.engine.malloc import keep_freed_memory
from reidlit.export.batch_norm_folding import folded
from reidlit.export.onnx import export_onnx
from reidlit.models import ReIDModel

SIZE = (256, 128)
MODELS = ("osnet_x1_0", "osnet_x0_25", "resnet50", "timm/vit_small_patch16_224")
FORMS = ("torchreid", "eager", "folded", "compiled", "onnx")
WARM_UP = 2
SECONDS = 4.0  # minimum duration of the measurement in each process
Embed = Callable[[Tensor], Any]


def main() -> None:
    """Run the measurements and write the results; a child process measures one form of one model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", default=MODELS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "models.json")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.child:
        name, form, folder = arguments.child
        print(json.dumps(child(name, form, Path(folder), arguments.batch, arguments.threads)))
        return
    results: dict[str, Any] = {
        "what": f"images per second embedded on the CPU, uint8 of {SIZE[0]} x {SIZE[1]} in batches of {arguments.batch}, fp32",
        "machine": machine(),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": versions(),
        "models": {},
    }
    for name in arguments.names:
        results["models"][name] = measure(name, arguments)
        print(json.dumps({name: results["models"][name]}, indent=2), flush=True)
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all forms of one model in turn."""
    with tempfile.TemporaryDirectory() as folder:
        forms = FORMS[1:] if name.startswith("timm/") else FORMS
        write_weights(name, Path(folder))
        runs: dict[str, list[dict[str, Any]]] = {form: [] for form in forms}
        for _ in range(arguments.rounds):
            for form in forms:
                command = [
                    sys.executable,
                    __file__,
                    "--threads",
                    str(arguments.threads),
                    "--batch",
                    str(arguments.batch),
                ]
                done = subprocess.run(
                    [*command, "--child", name, form, folder], stdout=subprocess.PIPE, text=True, check=True
                )
                runs[form].append(json.loads(done.stdout.splitlines()[-1]))
        embeddings = {form: np.load(Path(folder) / f"{form}.npy") for form in forms}
    reference = embeddings[forms[0]]
    rates = {form: statistics.median(run["images_per_second"] for run in runs[form]) for form in forms}
    floor = floor_rate(name, arguments.batch)
    return {
        "floor_images_per_second": round(floor, 1),
        "images_per_second": {form: round(rate, 1) for form, rate in rates.items()},
        "min_max": {
            form: [round(f(run["images_per_second"] for run in runs[form]), 1) for f in (min, max)] for form in forms
        },
        f"ratio_to_{forms[0]}": {form: round(rates[form] / rates[forms[0]], 2) for form in forms[1:]},
        "seconds_to_prepare": {
            form: round(statistics.median(run["prepare"] for run in runs[form]), 1) for form in forms
        },
        "largest_relative_difference": {
            form: float(f"{abs(embeddings[form] - reference).max() / abs(reference).max():.1e}") for form in forms[1:]
        },
    }


def write_weights(name: str, folder: Path) -> None:
    """Save random weights with varied batch-norm statistics, in Torchreid's format if Torchreid has the model."""
    torch.manual_seed(0)
    model: nn.Module = build_model(name, num_classes=1) if name.startswith("timm/") else torchreid_model(name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.get_buffer("running_mean"), -0.1, 0.1)
            nn.init.uniform_(module.get_buffer("running_var"), 0.8, 1.2)
    torch.save(model.state_dict(), folder / "weights.pth")


def torchreid_model(name: str) -> nn.Module:
    """Return Torchreid's model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its Cython evaluation is not needed here
        from torchreid.reid import models

    model: nn.Module = models.build_model(name, 1, loss="softmax", pretrained=False, use_gpu=False)
    return model


def child(name: str, form: str, folder: Path, batch: int, threads: int) -> dict[str, float]:
    """Measure one form and save the embeddings of a few images."""
    warnings.simplefilter("ignore")
    torch.manual_seed(1)
    image = torch.randint(0, 256, (batch, 3, *SIZE), dtype=torch.uint8)
    start = time.perf_counter()
    with torch.inference_mode():
        embed = build_form(name, form, folder, threads)
        np.save(folder / f"{form}.npy", np.asarray(embed(image)))
    prepare = time.perf_counter() - start
    seconds: list[float] = []
    with torch.inference_mode():
        for _ in range(WARM_UP):
            embed(image)
        while len(seconds) < 3 or sum(seconds) < SECONDS:
            start = time.perf_counter()
            embed(image)
            seconds.append(time.perf_counter() - start)
    return {"images_per_second": batch / statistics.median(seconds), "prepare": prepare}


def build_form(name: str, form: str, folder: Path, threads: int) -> Embed:
    """Return the function that embeds images with one form of a model."""
    if form == "torchreid":
        theirs = torchreid_model(name)
        theirs.load_state_dict(torch.load(folder / "weights.pth"))
        theirs.eval()
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        return lambda image: theirs((image / 255 - mean) / std)
    model: ReIDModel = build_model(name, num_classes=1).eval()
    load_weights(model, folder / "weights.pth")
    if form == "onnx":
        import onnxruntime

        path = folder / "model.onnx"
        with torch.inference_mode(False):
            export_onnx(model, path, SIZE)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda image: session.run(None, {"image": image.numpy()})[0]
    keep_freed_memory()
    if form != "eager":
        model = folded(model, SIZE)
    model.to(memory_format=torch.channels_last)
    if form == "compiled":
        return torch.compile(model.embed)
    return model.embed


def floor_rate(name: str, batch: int) -> float:
    """Return the images per second if only multiply-adds took time, at the rate of a large matrix product."""
    model = build_model(name, num_classes=1).eval()
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model.embed(torch.zeros(batch, 3, *SIZE, dtype=torch.uint8))
    return float(batch * product_flops() / counter.get_total_flops())


if __name__ == "__main__":
    main()
