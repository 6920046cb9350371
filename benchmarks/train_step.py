"""Time of a training step on the CPU in Torchreid and in reidlit, with the same weights and images.

    python benchmarks/train_step.py [--threads 2] [--output benchmarks/results/train_step.json]

A step consists of forward, label-smoothed cross entropy, backward, AMSGrad, the loss as a number and the accuracy. Torchreid uses
its model, loss and optimizer as its engine does. reidlit uses `build_model`, `CrossEntropy` and `build_optimizer` with
conf/optimizer/amsgrad.yaml, channels-last memory and `keep_freed_memory`, as `reidlit train` does, without Lightning's loop.
`reidlit_bf16` uses trainer.precision=bf16-mixed and is listed only for comparison, because its precision is lower. Each side runs
in its own processes, because the memory setting applies to a process; the processes alternate. With one thread, CPU time is
measured, so that other jobs matter less, otherwise wall time. Medians over all steps are reported.
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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchreid.reid import losses, metrics, models, optim

from rates import product_flops
from reidlit import build_model
from reidlit.config import option
from reidlit.engine.malloc import keep_freed_memory
from reidlit.engine.optim import build_optimizer
from reidlit.losses import CrossEntropy
from reidlit.models import load_weights

CLASSES = 751
LR = 3e-4
CASES = [
    ("osnet_x0_25", 128, 64, 64),
    ("osnet_x0_25", 256, 128, 64),
    ("osnet_x1_0", 256, 128, 32),
    ("resnet50", 256, 128, 16),
]
SIDES = ("torchreid", "reidlit", "reidlit_bf16")
Step = Callable[[], float]


def main() -> None:
    """Run the measurements and write the results; a child process measures one side of one case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--threads", type=int, default=2, help="number of threads; with 1, CPU time is measured instead of wall time"
    )
    parser.add_argument("--rounds", type=int, default=3, help="processes per side")
    parser.add_argument("--steps", type=int, default=5, help="measured steps per process, after a warm-up step")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "train_step.json")
    parser.add_argument("--child", nargs=2, metavar=("CASE", "SIDE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    if arguments.child:
        print(json.dumps(measure(CASES[int(arguments.child[0])], arguments.child[1], arguments.steps, clock)))
        return
    flops, bandwidth = machine_rates(clock)
    results = {
        "what": "seconds of one training step on the CPU; fp32 except for reidlit_bf16",
        "clock": "CPU time of the process" if arguments.threads == 1 else "wall time",
        "machine": {"cpu": cpu(), "cores": os.cpu_count(), "threads": arguments.threads},
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in ("torchreid", "torch", "reidlit")},
        "load_average_at_start": round(os.getloadavg()[0], 1),
        "rates": {"matrix_product_gflops": round(flops / 1e9, 1), "add_gigabytes_per_s": round(bandwidth / 1e9, 1)},
        "floor": "each convolution and linear layer three times (forward, and backward to input and weight) at these "
        "rates, the slower of arithmetic and memory traffic; norms, ReLU and gates count as free",
        "cases": [case(index, arguments, flops, bandwidth) for index in range(len(CASES))],
    }
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def case(index: int, arguments: argparse.Namespace, flops: float, bandwidth: float) -> dict[str, object]:
    """Measure all sides on one model and image size, in alternating processes."""
    name, height, width, batch = CASES[index]
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    first: dict[str, float] = {}
    for _ in range(arguments.rounds):
        for side in SIDES:
            command = [sys.executable, __file__, "--threads", arguments.threads, "--steps", arguments.steps]
            done = subprocess.run(
                [str(word) for word in (*command, "--child", index, side)], capture_output=True, text=True, check=True
            )
            measured = json.loads(done.stdout.splitlines()[-1])
            first[side] = measured["first_loss"]
            seconds[side] += measured["seconds"]
    if abs(first["torchreid"] - first["reidlit"]) > 1e-4 * abs(first["torchreid"]):
        raise SystemExit(f"{name}: the sides do not compute the same loss: {first}")
    median = {side: statistics.median(values) for side, values in seconds.items()}
    model = their_model(name)
    return {
        "model": name,
        "height_width": [height, width],
        "batch": batch,
        "first_loss": first,
        "seconds": {side: round(value, 4) for side, value in median.items()},
        "seconds_min_max": {side: [round(min(v), 4), round(max(v), 4)] for side, v in seconds.items()},
        "ratio": round(median["torchreid"] / median["reidlit"], 2),
        "ratio_bf16": round(median["torchreid"] / median["reidlit_bf16"], 2),
        "floor_seconds": round(floor(model, torch.zeros(batch, 3, height, width), flops, bandwidth), 4),
    }


def measure(case: tuple[str, int, int, int], side: str, steps: int, clock: Step) -> dict[str, object]:
    """Measure one side in this process, with the weights and images that all sides use."""
    name, height, width, batch = case
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, 3, height, width, generator=generator)
    pid = torch.randint(0, CLASSES, (batch,), generator=generator)
    torch.manual_seed(0)
    theirs = their_model(name)
    if side == "torchreid":
        step = their_step(theirs, image, pid)
    else:
        keep_freed_memory()
        ours = build_model(name, CLASSES)
        copy_weights(theirs, ours)
        step = our_step(ours, image, pid, bf16=side == "reidlit_bf16")
    first, seconds = step(), []
    for _ in range(steps):
        start = clock()
        step()
        seconds.append(clock() - start)
    return {"first_loss": first, "seconds": seconds}


def their_model(name: str) -> nn.Module:
    """Return Torchreid's model with random weights."""
    with contextlib.redirect_stdout(io.StringIO()):
        model: nn.Module = models.build_model(name, CLASSES, loss="softmax", pretrained=False)
    return model


def their_step(model: Any, image: Tensor, pid: Tensor) -> Step:
    """Return a step that equals `ImageSoftmaxEngine.forward_backward`, on the device of the images."""
    optimizer = optim.build_optimizer(model, optim="amsgrad", lr=LR, adam_beta2=0.999)
    criterion = losses.CrossEntropyLoss(CLASSES, use_gpu=image.is_cuda, label_smooth=True)
    model.train()

    def step() -> float:
        output = model(image)
        loss = criterion(output, pid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        value = float(loss.item())
        metrics.accuracy(output, pid)[0].item()
        return value

    return step


def our_step(model: nn.Module, image: Tensor, pid: Tensor, bf16: bool, compiled: bool = False) -> Step:
    """Return a step that equals that of `ReIDModule`, on the device of the images, with channels-last images."""
    model = model.to(memory_format=torch.channels_last).train()
    if compiled:
        model.compile()
    image = image.contiguous(memory_format=torch.channels_last)
    optimizer = build_optimizer(model, option("optimizer", "amsgrad") | {"lr": LR})
    criterion = CrossEntropy(label_smoothing=0.1)

    def step() -> float:
        with torch.autocast(image.device.type, torch.bfloat16, enabled=bf16):
            output = model(image)
            loss = criterion(output, pid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        (output.logits[0].detach().argmax(1) == pid).float().mean().item()
        return float(loss.item())

    return step


def copy_weights(theirs: nn.Module, ours: nn.Module) -> None:
    """Copy Torchreid's weights to the model of reidlit.

    Raises:
        ValueError: If a tensor of the model has no counterpart in Torchreid's model.
    """
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), Path(folder) / "theirs.pth")
        report = load_weights(ours, Path(folder) / "theirs.pth")
    if report.missing or report.mismatched:
        raise ValueError(f"Tensors without a counterpart in Torchreid's model:\n{report}")


def floor(model: nn.Module, image: Tensor, flops: float, bandwidth: float) -> float:
    """Return the seconds that the convolutions and linear layers of a step need at the rates of the machine."""
    total = 0.0

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal total
        weight = module.get_parameter("weight")
        rows = output.numel() / weight.shape[0]
        arithmetic = 2 * rows * weight.numel() / flops
        traffic = 4 * (inputs[0].numel() + output.numel() + weight.numel()) / bandwidth
        total += 3 * max(arithmetic, traffic)

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        model.eval()(image)
        embedding = torch.zeros(len(image), model.get_parameter("classifier.weight").shape[1])
        model.get_submodule("classifier")(embedding)
    for hook in hooks:
        hook.remove()
    return total


def machine_rates(clock: Step) -> tuple[float, float]:
    """Return the best FLOP/s of a matrix product and the best bytes/s of an addition outside the cache."""
    values = torch.randn(16 << 20)
    out = torch.empty_like(values)
    additions = []
    for _ in range(8):
        start = clock()
        torch.add(values, 1.0, out=out)
        additions.append(clock() - start)
    return product_flops(clock), 8 * values.numel() / min(additions)


def cpu() -> str:
    """Return the name of the processor."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
