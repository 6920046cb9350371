"""Effect of the number of frames on video re-identification, on synthetic tracklets.

    python benchmarks/pooling.py [--output benchmarks/results/pooling.json]

OSNet x0.25 with average temporal pooling is trained once per seed on `data=synthetic_video` with the defaults of `reidlit train`,
and tested on one, four, eight and all frames of each tracklet. Training and test have different identities. A single frame is the
middle one, which equals image re-identification.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from loader import cpu, versions

TESTS = {
    "1 frame": ["data.seq_len=1", "data.test_sampling=even"],
    "4 frames": ["data.seq_len=4", "data.test_sampling=even"],
    "8 frames": ["data.seq_len=8", "data.test_sampling=even"],
    "all frames": ["data.test_sampling=all"],
}
METRICS = ("mAP", "rank1")


def main() -> None:
    """Train, test and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "pooling.json")
    arguments = parser.parse_args()
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in TESTS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            trained = Path(folder) / f"{seed}"
            command("train", f"seed={seed}", "test=false", "logger=csv", f"hydra.run.dir={trained}", folder=folder)
            for name, options in TESTS.items():
                tested = trained / name.replace(" ", "_")
                path = f"ckpt_path={trained}/checkpoints/last.ckpt"
                command("test", path, *options, f"hydra.run.dir={tested}", folder=folder)
                metrics = json.loads((tested / "metrics.json").read_text())
                scores[name].append({metric: metrics[f"test/synthetic_video/{metric}"] for metric in METRICS})
    results = {
        "what": "scores on the test set of synthetic_video as fractions: means over seeds, and each seed",
        "machine": {"cpu": cpu(), "cores": os.cpu_count()},
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": versions(),
        "seeds": arguments.seeds,
        "mean": {
            name: {metric: round(statistics.mean(run[metric] for run in runs), 4) for metric in METRICS}
            for name, runs in scores.items()
        },
        "each": scores,
    }
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def command(name: str, *options: str, folder: str) -> None:
    """Run a command of reidlit on synthetic tracklets."""
    arguments = [sys.executable, "-m", "reidlit", name, "data=synthetic_video", "callbacks.progress=null", *options]
    subprocess.run(arguments, check=True, cwd=folder, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
