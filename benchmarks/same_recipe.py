"""The accuracy of one recipe by Torchreid's engine and by ours: same data, epochs, optimiser, schedule and augmentation.

    python benchmarks/same_recipe.py <folder that holds market1501> [--epochs 15] [--seeds 1,2,3] [--loss softmax]

Both start from random weights: flip, crop, erasing; AMSGrad, cosine schedule by epoch without warm-up; softmax, or triplet with
the cross entropy. Each training is a process of its own; both sides' weights are scored by `reidlit test`. Mean and standard
deviation over the seeds. With the 128 x 64 images of the default and 15 epochs a training takes a quarter of an hour on two cores.
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
FIGURES = ("mAP", "rank1", "mINP")


def main() -> None:
    """Trains, tests and writes the results; a child process trains Torchreid's side once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, help="the folder that holds market1501")
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
        for side, found in runs.items():
            with tempfile.TemporaryDirectory() as folder:
                found.append((theirs if side == "torchreid" else ours)(arguments, setting, seed, Path(folder)))
            print(side, seed, found[-1], flush=True)
            arguments.output.write_text(json.dumps(report(arguments, setting, runs), indent=2) + "\n")


def theirs(arguments: argparse.Namespace, setting: Setting, seed: str, folder: Path) -> dict[str, float]:
    """One training by Torchreid's engine."""
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
    """Trains Torchreid's side in this process."""
    import torch
    from torchreid.reid.utils import set_random_seed

    set_random_seed(int(seed))
    folder = str(Path(weights).parent / "log")
    network = train_theirs(arguments.model, arguments.loss, setting, folder, arguments.epochs, arguments.lr)
    state = {name.removeprefix("module."): tensor.cpu() for name, tensor in network.state_dict().items()}
    torch.save(state, weights)


def ours(arguments: argparse.Namespace, setting: Setting, seed: str, folder: Path) -> dict[str, float]:
    """One training by the command line."""
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
    """Runs a command; what it prints is shown only if it fails."""
    with (folder / "printed.txt").open("w") as printed:
        done = subprocess.run(command, stdout=printed, stderr=subprocess.STDOUT, check=False, env=os.environ)
    if done.returncode:
        raise SystemExit((folder / "printed.txt").read_text()[-4000:])


def scores(run_folder: Path) -> dict[str, float]:
    """The figures of a test."""
    found = json.loads((run_folder / "metrics.json").read_text())
    return {name: found[f"test/market1501/{name}"] for name in FIGURES}


def report(arguments: argparse.Namespace, setting: Setting, runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """What is written."""
    return {
        "what": "scores of one recipe on the full test set, from random weights, by Torchreid's engine and by ours",
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
        "mean": {side: spread(found, statistics.mean) for side, found in runs.items() if found},
        "standard_deviation": {side: spread(found, statistics.stdev) for side, found in runs.items() if len(found) > 1},
    }


def spread(found: list[dict[str, float]], of: Any) -> dict[str, float]:
    """A statistic of each figure over the seeds."""
    return {name: round(of([run[name] for run in found]), 5) for name in (*FIGURES, "minutes")}


if __name__ == "__main__":
    main()
