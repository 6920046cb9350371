"""Accuracy of one recipe with Torchreid's engine and with reidlit.

    python benchmarks/same_recipe.py <folder that contains market1501> [--epochs 15] [--seeds 1,2,3] [--loss softmax]

Both use the same data, epochs, optimizer, schedule and augmentation. They start from random weights, with flip, crop and erasing,
AMSGrad, a cosine schedule per epoch without warm-up, and softmax, or triplet with cross entropy. Each training runs in its own
process, and `reidlit test` evaluates the weights of both sides. Mean and standard deviation over the seeds are reported. With the
default of 128 x 64 images and 15 epochs, a training takes a quarter of an hour on two cores.
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
from pathlib import Path
from typing import Any

from evaluation import machine, versions
from training_run import LOSSES, Setting, data_options, train_theirs

RESULTS = Path(__file__).parent / "results" / "same_recipe.json"
METRICS = ("mAP", "rank1", "mINP")


def main() -> None:
    """Train, test and write the results; a child process trains once with Torchreid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, help="folder that contains market1501")
    parser.add_argument("--model", default="osnet_x0_25")
    parser.add_argument("--loss", default="softmax", choices=tuple(LOSSES))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--size", type=int, nargs=2, default=(128, 64), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    setting = Setting(
        root=str(arguments.root.resolve()),
        packs="",
        device=arguments.device,
        batch=arguments.batch,
        height=arguments.size[0],
        width=arguments.size[1],
        workers=arguments.workers,
        warm_up=0,
        steps=0,
        rounds=0,
    )
    if arguments.child:
        child(arguments, setting, *arguments.child)
        return
    runs: dict[str, list[dict[str, float]]] = {"torchreid": [], "reidlit": []}
    for seed in arguments.seeds.split(","):
        for side, side_runs in runs.items():
            with tempfile.TemporaryDirectory() as folder:
                side_runs.append((theirs if side == "torchreid" else ours)(arguments, setting, seed, Path(folder)))
            print(side, seed, side_runs[-1], flush=True)
            arguments.output.write_text(json.dumps(report(arguments, setting, runs), indent=2) + "\n")


def theirs(arguments: argparse.Namespace, setting: Setting, seed: str, folder: Path) -> dict[str, float]:
    """Train with Torchreid's engine and test with reidlit."""
    start = time.perf_counter()
    run([sys.executable, __file__, *sys.argv[1:], "--child", seed, str(folder / "weights.pth")], folder)
    minutes = (time.perf_counter() - start) / 60
    weights = [f"weights={folder / 'weights.pth'}", f"model={arguments.model}", "callbacks.ranked_lists=null"]
    run(
        [sys.executable, "-m", "reidlit", "test", *weights, *data_options(setting), f"hydra.run.dir={folder}/test"],
        folder,
    )
    return scores(folder / "test") | {"minutes": round(minutes, 1)}


def child(arguments: argparse.Namespace, setting: Setting, seed: str, weights: str) -> None:
    """Train with Torchreid in this process and save the weights."""
    import torch
    from torchreid.reid.utils import set_random_seed

    set_random_seed(int(seed))
    folder = str(Path(weights).parent / "log")
    network = train_theirs(arguments.model, arguments.loss, setting, folder, arguments.epochs, arguments.lr)
    state = {name.removeprefix("module."): tensor.cpu() for name, tensor in network.state_dict().items()}
    torch.save(state, weights)


def ours(arguments: argparse.Namespace, setting: Setting, seed: str, folder: Path) -> dict[str, float]:
    """Train and test with the command line of reidlit."""
    recipe = [
        f"model={arguments.model}",
        f"loss={LOSSES[arguments.loss]}",
        f"optimizer.lr={arguments.lr}",
        f"seed={seed}",
    ]
    recipe += ["optimizer=amsgrad", "scheduler=cosine", f"trainer.max_epochs={arguments.epochs}", "test=false"]
    start = time.perf_counter()
    run(
        [sys.executable, "-m", "reidlit", "train", *recipe, *data_options(setting), f"hydra.run.dir={folder}/run"],
        folder,
    )
    minutes = (time.perf_counter() - start) / 60
    checkpoint = [f"ckpt_path={folder}/run/checkpoints/last.ckpt", "callbacks.ranked_lists=null"]
    run(
        [sys.executable, "-m", "reidlit", "test", *checkpoint, *data_options(setting), f"hydra.run.dir={folder}/test"],
        folder,
    )
    return scores(folder / "test") | {"minutes": round(minutes, 1)}


def run(command: list[str], folder: Path) -> None:
    """Run a command and show its output only if it fails."""
    with (folder / "output.txt").open("w") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False, env=os.environ)
    if done.returncode:
        raise SystemExit((folder / "output.txt").read_text()[-4000:])


def scores(run_folder: Path) -> dict[str, float]:
    """Return the scores of a test run."""
    metrics = json.loads((run_folder / "metrics.json").read_text())
    return {name: metrics[f"test/market1501/{name}"] for name in METRICS}


def report(arguments: argparse.Namespace, setting: Setting, runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return the results to write."""
    return {
        "what": "scores of one recipe on the full test set, from random weights, with Torchreid's engine and with reidlit",
        "machine": machine(),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": versions(),
        "model": arguments.model,
        "loss": arguments.loss,
        "epochs": arguments.epochs,
        "lr": arguments.lr,
        "seeds": arguments.seeds,
        "setting": {key: getattr(setting, key) for key in ("device", "batch", "height", "width", "workers")},
        "runs": runs,
        "mean": {side: over_seeds(side_runs, statistics.mean) for side, side_runs in runs.items() if side_runs},
        "standard_deviation": {
            side: over_seeds(side_runs, statistics.stdev) for side, side_runs in runs.items() if len(side_runs) > 1
        },
    }


def over_seeds(runs: list[dict[str, float]], statistic: Any) -> dict[str, float]:
    """Return a statistic of each metric over the seeds."""
    return {name: round(statistic([run[name] for run in runs]), 5) for name in (*METRICS, "minutes")}


if __name__ == "__main__":
    main()
